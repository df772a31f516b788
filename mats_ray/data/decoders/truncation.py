"""Whether an audio file ends before its time, which libsndfile does not say: it decodes what is there.

FLAC alone raises by itself. Not found out: a cut exactly between two pages of an Ogg file (it looks like a
recording that was stopped), an MP3 that does not count its frames, a cut W64 or RF64 file.
"""

import os
import re
from typing import BinaryIO

import soundfile

TOLERANCE_SECONDS = 0.1
"""Missing at the end of files in everyday use: sizes that count a header, damage the decoder steps over."""

UNKNOWN_FRAMES = 2**62
"""libsndfile's frame count is above this where the header does not tell."""

_OGG_MAX_PAGE = 65_307
_OGG_HEADER = 27
_ID3_HEADER = 10
# from here on a chunk size is what streaming encoders write for "not known yet"
_UNKNOWN_SIZE = 0x7FFF_0000
_MISSING_BYTES = re.compile(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)


def is_cut_off(stream: BinaryIO, file: soundfile.SoundFile, decoded_frames: int) -> bool:
    """Tell whether the file must once have been longer.

    Args:
        stream: The encoded file; its position is moved.
        file: The same, open.
        decoded_frames: All that could be decoded.
    """
    if file.format == "OGG":
        return _ends_inside_ogg_page(stream)
    counted = file.frames < UNKNOWN_FRAMES and (file.format != "MP3" or _counts_mp3_frames(stream))
    missing = file.frames - decoded_frames if counted else 0
    missing = max(missing, _frames_beyond_the_end(file.extra_info, decoded_frames))
    return missing > TOLERANCE_SECONDS * file.samplerate


def _frames_beyond_the_end(log: str, decoded_frames: int) -> int:
    """Frames a chunk of a WAV, AIFF or AU file announces but does not hold, by libsndfile's own log."""
    match = _MISSING_BYTES.search(log)
    if match is None:
        return 0
    announced, available = int(match[1]), int(match[2])
    if announced >= _UNKNOWN_SIZE or announced <= available:
        return 0
    return announced if available <= 0 else round(decoded_frames * (announced / available - 1))


def _ends_inside_ogg_page(stream: BinaryIO) -> bool:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _OGG_MAX_PAGE))
    tail = stream.read(_OGG_MAX_PAGE)
    start = tail.rfind(b"OggS")
    if start < 0:
        return False  # something that is no Ogg follows, the last page lies before it
    page = tail[start:]
    if len(page) < _OGG_HEADER:
        return True
    lacing = page[_OGG_HEADER : _OGG_HEADER + page[26]]
    return len(page) < _OGG_HEADER + page[26] + sum(lacing)


def _counts_mp3_frames(stream: BinaryIO) -> bool:
    """Whether the first frame is a Xing or Info header, so that the announced length is no guess."""
    stream.seek(0)
    head = stream.read(_ID3_HEADER)
    start = 0
    if head.startswith(b"ID3") and len(head) == _ID3_HEADER:
        start = _ID3_HEADER + sum(
            (byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
        )
    stream.seek(start)
    first_frame = stream.read(2048)
    return b"Xing" in first_frame or b"Info" in first_frame
