"""Recognise a file by its first bytes, and split it where several files were joined.

The first bytes of a segment decide which library reads it. FFmpeg is given the container and never guesses,
so a playlist, a subtitle or a list of other files is no audio here. Tags and zeros, in front, between and
behind, are skipped; other bytes that no library would read are an error where they may be audio.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO

from mats_ray.data.decoders import mp4_matroska_asf, mpeg_frames, ogg_flac, riff_chunks
from mats_ray.data.decoders.id3_tags import tag_bytes
from mats_ray.data.decoders.limits import Limits, broken, cut_off, not_audio
from mats_ray.data.decoders.segments import SNDFILE, Segment, read_at
from mats_ray.errors import AudioDecodeError

SegmentParser = Callable[[BinaryIO, int, int, str], Segment]

MAX_SEGMENTS = 1024

HEAD_BYTES = 32
_MAX_JUNK = 65_536
"""In front of an MP3."""
_MIN_ZEROS = 16
# QuickTime's files need no "ftyp"; any of these may come first
_FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"pnot"}
_OTHER_BOXES = {
    *(b"free", b"skip", b"uuid", b"sidx", b"styp", b"moof", b"junk", b"pict", b"PICT", b"meta", b"emsg"),
    *(b"prft", b"ssix", b"udta"),
}
_UNREAD = {
    b"TTA1": "True Audio",
    b"TTA2": "True Audio",
    b"wvpk": "WavPack",
    b"MAC ": "Monkey's Audio",
    b"MP+": "Musepack",
    b"MPCK": "Musepack",
    b"DSD ": "DSD",
    b"FRM8": "DSD",
    b"tBaK": "TAK",
    b"ajkg": "Shorten",
    b"OFR ": "OptimFROG",
    b".RMF": "RealMedia",
    b".ra\xfd": "RealAudio",
    b"FLV\x01": "Flash video",
    b"\x0b\x77": "AC-3",
    b"\x7f\xfe\x80\x01": "DTS",
    b"MThd": "MIDI",
    b"\x00\x00\x01\xba": "MPEG program stream",
    b"ADIF": "AAC (ADIF)",
    b"qoaf": "QOA",
}
"""Kinds of audio that are not read, by their first bytes."""
_TS_PACKET = 188


def split_segments(stream: BinaryIO, size: int, name: str, limits: Limits) -> Iterator[Segment]:
    """Split a file into its segments; each is searched for when the one before has been decoded.

    Raises:
        AudioDecodeError: Codes ``not_audio``, ``unsupported``, ``truncated``, ``damaged``, ``too_long``,
            ``too_large``.
    """
    before: Segment | None = None
    start, place = 0, _skip_tags(stream, 0, size)
    for _ in range(MAX_SEGMENTS):
        parser = _parser_at(stream, place, size, limits)
        if parser is None and before is None:
            _check_known(stream, place, name)
        if parser is None and (found := mpeg_frames.search(stream, place, size, reach=_MAX_JUNK)) is not None:
            place, parser = found, _frames(limits)
        if parser is None:
            break
        segment = parser(stream, place, size, name)
        _check_gap(stream, before, segment, place, name)
        yield segment
        before, start, place = segment, place, _skip_tags(stream, segment.end, size)
    else:
        raise broken(name, f"it is joined of more than {MAX_SEGMENTS} parts", at_end=False)
    if before is None:
        yield _unrecognised(stream, place, size, name)
    else:
        _check_rest(stream, before, before.end - start, place, size, name)


def _check_gap(stream: BinaryIO, before: Segment | None, segment: Segment, place: int, name: str) -> None:
    """Refuse frames that continue behind a gap, where no count would show that some of them are lost."""
    is_gap = before is not None and before.frames and not segment.has_frame_count and place > before.end
    if before is not None and is_gap and not tag_bytes(stream, before.end):
        raise broken(name, f"{place - before.end} bytes within it are no sound", at_end=False)


def _check_rest(stream: BinaryIO, segment: Segment, num_bytes: int, place: int, size: int, name: str) -> None:
    """Refuse what may be audio behind the last segment."""
    head, rest = read_at(stream, place, mpeg_frames.HEAD_BYTES), size - place
    frame = mpeg_frames.frame_of(head)
    is_head = head[:1] in {b"\xff", b"\x56"} and rest < mpeg_frames.HEAD_BYTES
    if segment.frames and (is_head or (frame is not None and frame.num_bytes > rest)):
        raise cut_off(name)
    if rest > num_bytes:
        raise broken(name, f"{rest} bytes behind its end are of no known kind", at_end=False)


def _parser_at(stream: BinaryIO, place: int, size: int, limits: Limits) -> SegmentParser | None:
    head = read_at(stream, place, HEAD_BYTES)
    if head[:4] in riff_chunks.RIFF_MAGICS:
        return riff_chunks.riff_segment if head[8:12] == b"WAVE" else None
    if head[:4] == b"FORM":
        return riff_chunks.aiff_segment if head[8:12] in {b"AIFF", b"AIFC"} else None
    for magic, parser in _PARSERS.items():
        if head.startswith(magic):
            return parser
    if _is_box(head, size - place):
        return mp4_matroska_asf.mp4_segment
    return _frames(limits) if mpeg_frames.follows(stream, place, size, count=2) else None


def _frames(limits: Limits) -> SegmentParser:
    return lambda stream, start, size, name: mpeg_frames.frames_segment(stream, start, size, name, limits)


_PARSERS: dict[bytes, SegmentParser] = {
    riff_chunks.W64_MAGIC: riff_chunks.w64_segment,
    b"caff": riff_chunks.caf_segment,
    b".snd": riff_chunks.au_segment,
    b"dns.": riff_chunks.au_segment,
    b"fLaC": ogg_flac.flac_segment,
    b"OggS": ogg_flac.ogg_segment,
    mp4_matroska_asf.EBML_MAGIC: mp4_matroska_asf.matroska_segment,
    mp4_matroska_asf.ASF_MAGIC: mp4_matroska_asf.asf_segment,
    mp4_matroska_asf.AMR_MAGIC: mp4_matroska_asf.amr_segment,
}


def has_audio_signature(head: bytes) -> bool:
    """Whether a file's first ``HEAD_BYTES`` are those of a container, read or not, of a frame or of a tag."""
    magics = (*riff_chunks.RIFF_MAGICS, *_PARSERS, *_UNREAD, b"ID3")
    is_aiff = head[:4] == b"FORM" and head[8:11] == b"AIF"
    is_frame = mpeg_frames.SYNC.match(head) is not None
    return head.startswith(magics) or is_aiff or head[4:8] in _FIRST_BOXES or is_frame


def _is_box(head: bytes, rest: int) -> bool:
    if head[4:8] in _FIRST_BOXES:
        return True
    box = int.from_bytes(head[:4], "big")  # 1: its size follows as a number of 8 bytes
    return head[4:8] in _OTHER_BOXES and (box == 1 or 8 <= box <= rest)


def _check_known(stream: BinaryIO, place: int, name: str) -> None:
    """Refuse audio of a kind that is not read.

    Raises:
        AudioDecodeError: Code ``unsupported``.
    """
    head = read_at(stream, place, 3 * _TS_PACKET)
    kind = next((kind for magic, kind in _UNREAD.items() if head.startswith(magic)), None)
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        kind = "AVI"
    elif head[::_TS_PACKET] == b"GGG":
        kind = "MPEG transport stream"
    if kind is not None:
        raise AudioDecodeError(f"{name} is of a kind that is not read ({kind})", code="unsupported")


def _unrecognised(stream: BinaryIO, place: int, size: int, name: str) -> Segment:
    """Leave the whole file to libsndfile, which recognises some rare kinds itself.

    Raises:
        AudioDecodeError: Codes ``not_audio``, ``truncated``: it would look for an MP3 in anything.
    """
    head = read_at(stream, place, mpeg_frames.HEAD_BYTES)
    frame = mpeg_frames.frame_of(head)
    # two bytes in front of UTF-16 text look like a frame
    is_text = head.startswith(b"\xff\xfe")
    if (frame is not None and frame.num_bytes > size - place and not is_text) or (
        place >= size and tag_bytes(stream, 0)
    ):
        raise cut_off(name)
    if head[:1] == b"\xff" and head[1:2] >= b"\xe0":
        raise not_audio(name)
    return Segment(end=size, readers=(SNDFILE,), pieces=(range(place if place < size else 0, size),))


def _skip_tags(stream: BinaryIO, place: int, size: int) -> int:
    """Return the place behind tags and behind zeros, which some programs leave where a tag was."""
    for _ in range(MAX_SEGMENTS):
        if num_bytes := tag_bytes(stream, place):
            place += num_bytes
        elif _is_box(read_at(stream, place, HEAD_BYTES), size - place):
            break
        elif zeros := _num_zeros(stream, place):
            place += zeros
        else:
            break
    return min(place, size)


def _num_zeros(stream: BinaryIO, place: int) -> int:
    stream.seek(place)
    zeros = 0
    while block := stream.read(1 << 16):
        rest = block.lstrip(b"\0")
        zeros += len(block) - len(rest)
        if rest:
            break
    return zeros if zeros >= _MIN_ZEROS else 0
