"""Parsers of bare streams of frames: MPEG audio (MP1, MP2, MP3) and AAC (ADTS, LATM).

Each frame declares its size. A segment is a run of frames of one kind; where the kind changes, or a frame
counts those behind it (Xing, Info, VBRI), another file starts. The count is set right: a decoder would stop
there.
"""

import functools
import math
import re
from dataclasses import dataclass
from typing import BinaryIO

from mats_ray.data.decoders.id3_tags import tag_bytes
from mats_ray.data.decoders.limits import TOLERANCE_SECONDS, Limits, cut_off
from mats_ray.data.decoders.segments import SNDFILE, Segment, read_at

HEAD_BYTES = 7
_KBPS = {  # by version 1 or not, and layer
    (True, 1): range(0, 480, 32),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)
_ADTS_RATES = (
    96_000,
    88_200,
    64_000,
    48_000,
    44_100,
    32_000,
    24_000,
    22_050,
    16_000,
    12_000,
    11_025,
    8_000,
    7_350,
)
SYNC = re.compile(rb"\xff(?=[\xe2-\xff][^\xf0-\xff])|\x56(?=[\xe0-\xff])", re.DOTALL)
_MAX_GAPS = 4
_TAG_BYTES = 64
_HAS_COUNT, _HAS_BYTES = 1, 2


@dataclass(frozen=True, slots=True)
class Frame:
    """The head of a frame."""

    demuxer: str
    """FFmpeg's demuxer for its kind."""
    kind: tuple[int, ...]
    """Layer, rate and channels."""
    num_bytes: int
    num_samples: int
    rate: int
    tag_at: int = 0
    """Offset of the tag with the count of frames in an MP3; 0 for other kinds."""

    @property
    def stream(self) -> tuple[object, ...]:
        """Key that all frames of one stream share."""
        return self.demuxer, *self.kind


@dataclass(frozen=True, slots=True)
class _Info:
    """A frame that holds no audio but the number of frames behind it."""

    tag_at: int
    count: int | None
    """None: not declared, or in another form."""
    counts_bytes: bool = False


def frame_of(head: bytes) -> Frame | None:
    """Read the head of a frame, from its first 7 bytes; None where there is none."""
    if len(head) < HEAD_BYTES:
        return None
    if head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return _adts(head)
    if head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return _mpeg(head[:4])
    if head[0] == 0x56 and head[1] & 0xE0 == 0xE0:
        # its rate stands deeper in; for the limits only, the highest will do
        return Frame("loas", (), 3 + ((head[1] & 0x1F) << 8 | head[2]), 1024, _ADTS_RATES[0])
    return None


def follows(stream: BinaryIO, place: int, size: int, *, count: int) -> Frame | None:
    """Return the frame at a place, if ``count`` of its kind stand there in a row, or fewer up to the end."""
    first = frame = frame_of(read_at(stream, place, HEAD_BYTES))
    for _ in range(count - 1):
        if frame is None:
            return None
        place += frame.num_bytes
        if place + HEAD_BYTES > size:
            return first if frame is not first or place == size else None
        frame = frame_of(read_at(stream, place, HEAD_BYTES))
        if frame is not None and first is not None and frame.stream != first.stream:
            return None
    return first if frame is not None else None


def search(stream: BinaryIO, start: int, size: int, *, reach: int) -> int | None:
    """Find where the next four frames of one kind stand, at most ``reach`` bytes on."""
    block = read_at(stream, start, min(reach, size - start))
    for match in SYNC.finditer(block):
        if follows(stream, start + match.start(), size, count=4):
            return start + match.start()
    return None


def frames_segment(stream: BinaryIO, start: int, size: int, name: str, limits: Limits) -> Segment:
    """Parse the frames that start here.

    Raises:
        AudioDecodeError: Codes ``too_long`` and ``too_large``, by the heads of the frames; ``truncated``.
    """
    first = frame_of(read_at(stream, start, HEAD_BYTES))
    assert first is not None
    info = _info(read_at(stream, start, _TAG_BYTES), first)
    runs, frame, place, count, is_cut = list[range](), first, start, 0, False
    run_start = start + first.num_bytes * (info is not None)
    while frame is not None:
        if place + frame.num_bytes > size:
            is_cut, place = True, size
            break
        place, count = place + frame.num_bytes, count + 1
        limits.check_length(count * frame.num_samples, frame.rate, name)
        following = _frame_at(stream, place, first)
        on = _skip_gap(stream, place, size, frame, num_before=len(runs)) if following is None else None
        if on is not None:
            runs.append(range(run_start, place))
            run_start = place = on
            following = _frame_at(stream, place, first)
        frame = following
    runs.append(range(run_start, place))
    count -= info is not None
    if info is not None and info.count:
        is_cut = (info.count - count) * first.num_samples > TOLERANCE_SECONDS * first.rate
    if is_cut and count < 2:  # a single frame, of which libmpg123 complains on the terminal
        raise cut_off(name)
    by_sndfile = first.tag_at > 0
    return Segment(
        end=place,
        readers=(SNDFILE, first.demuxer) if by_sndfile else (first.demuxer,),
        pieces=(_tag(stream, start, first, info, runs, count), *runs) if by_sndfile else tuple(runs),
        missing=math.inf if is_cut else 0.0,
        frames=first.stream,
        has_frame_count=info is not None,
    )


def _frame_at(stream: BinaryIO, place: int, first: Frame) -> Frame | None:
    """Return the frame at a place, if it is one of the same stream."""
    head = read_at(stream, place, _TAG_BYTES if first.tag_at else HEAD_BYTES)
    frame = frame_of(head[:HEAD_BYTES])
    if frame is None or frame.stream != first.stream or _info(head, frame):
        return None
    return frame


def _skip_gap(stream: BinaryIO, place: int, size: int, frame: Frame, *, num_before: int) -> int | None:
    """Find where the stream continues behind a tag, or behind damage so short that a decoder may skip it."""
    on: int | None = place
    while on is not None and (num_bytes := tag_bytes(stream, on)):
        on += num_bytes
    if on == place:
        if place >= size or num_before >= _MAX_GAPS or follows(stream, place, size, count=2):
            return None  # the end, much damage, or another stream
        reach = math.ceil(TOLERANCE_SECONDS * frame.rate / frame.num_samples * frame.num_bytes)
        on = search(stream, place, size, reach=reach)
    return on if on is not None and _frame_at(stream, on, frame) else None


def _info(head: bytes, frame: Frame) -> _Info | None:
    if not frame.tag_at:
        return None
    if head[36:40] == b"VBRI":
        return _Info(36, None)
    for at in (frame.tag_at, frame.tag_at + 2):  # a checksum may stand before it
        if head[at : at + 4] in {b"Xing", b"Info"} and len(head) >= at + 16:
            flags = head[at + 7]
            count = int.from_bytes(head[at + 8 : at + 12], "big") if flags & _HAS_COUNT else None
            return _Info(at, count, counts_bytes=bool(flags & _HAS_BYTES))
    return None


def _tag(
    stream: BinaryIO, start: int, first: Frame, info: _Info | None, runs: list[range], count: int
) -> bytes:
    """Make the frame that counts the others: the one that is there set right, or one of our own.

    The encoder's delay in it stays, so that the length stays that of what was encoded.
    """
    count, num_bytes = max(0, count), sum(map(len, runs))
    if info is None or info.count is None:
        head = bytearray(read_at(stream, start, 4))
        head[1] |= 1  # no checksum
        head[2] = head[2] & 0x0C | 0xE0  # the highest bit rate, for room
        frame = _mpeg(bytes(head))
        assert frame is not None
        tag = b"Info" + _HAS_COUNT.to_bytes(4, "big") + count.to_bytes(4, "big")
        return bytes(head).ljust(frame.tag_at, b"\0") + tag.ljust(frame.num_bytes - frame.tag_at, b"\0")
    tag = bytearray(read_at(stream, start, first.num_bytes))
    at = info.tag_at + 8
    tag[at : at + 4] = count.to_bytes(4, "big")
    if info.counts_bytes:
        tag[at + 4 : at + 8] = (len(tag) + num_bytes).to_bytes(4, "big")
    return bytes(tag)


def _adts(head: bytes) -> Frame | None:
    rate = head[2] >> 2 & 0x0F
    num_bytes = (head[3] & 0x03) << 11 | head[4] << 3 | head[5] >> 5
    if rate >= len(_ADTS_RATES) or num_bytes < HEAD_BYTES:
        return None
    channels = (head[2] & 1) << 2 | head[3] >> 6
    return Frame("aac", (rate, channels), num_bytes, 1024 * (1 + (head[6] & 0x03)), _ADTS_RATES[rate])


@functools.lru_cache(4096)
def _mpeg(head: bytes) -> Frame | None:
    version, layer = head[1] >> 3 & 0x03, 4 - (head[1] >> 1 & 0x03)
    index, rate_index, padding = head[2] >> 4, head[2] >> 2 & 0x03, head[2] >> 1 & 0x01
    if version == 1 or layer == 4 or index in {0, 15} or rate_index == 3:
        return None
    is_first, is_mono = version == 3, head[3] >> 6 == 3
    rate = _RATES[rate_index] >> (0 if is_first else 1 if version == 2 else 2)
    bits = 1000 * _KBPS[is_first, layer][index]
    if layer == 1:
        num_samples, num_bytes = 384, 4 * (12 * bits // rate + padding)
    else:
        num_samples = 1152 if is_first or layer == 2 else 576
        num_bytes = num_samples // 8 * bits // rate + padding
    side = (17 if is_mono else 32) if is_first else (9 if is_mono else 17)
    return Frame("mp3", (layer, rate, is_mono), num_bytes, num_samples, rate, 4 + side if layer == 3 else 0)
