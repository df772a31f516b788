"""Parsers of containers that only FFmpeg reads: MP4 and QuickTime (boxes), Matroska, ASF, AMR.

FFmpeg mixes durations stored in a file with estimates of its own; these parsers tell one from the other.
"""

import math
import struct
from typing import BinaryIO

from mats_ray.data.decoders.limits import broken
from mats_ray.data.decoders.segments import MAX_ELEMENTS, Segment, find_next, read_at

EBML_MAGIC = b"\x1a\x45\xdf\xa3"
ASF_MAGIC = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"
AMR_MAGIC = b"#!AMR"

# Matroska's Duration, of 4 or 8 bytes: without it FFmpeg makes a length up from the bit rate
_MATROSKA_DURATIONS = (b"\x44\x89\x84", b"\x44\x89\x88")
_MATROSKA_INFO_BYTES = 8192
_SEGMENT, _CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
_OPEN_ELEMENTS = (_SEGMENT, _CLUSTER)
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_FILE_SIZE = 40  # its place in the properties, GUID included
_ASF_FLAGS = 88
_ASF_HEADER_BYTES = 65_536


def mp4_segment(stream: BinaryIO, start: int, size: int, name: str) -> Segment:
    """Parse an MP4 or QuickTime file: to where another one starts behind its index.

    Raises:
        AudioDecodeError: Code ``damaged``: absurdly many boxes.
    """
    place, has_index = start, False
    for _ in range(MAX_ELEMENTS):
        head = read_at(stream, place, 16)
        kind = head[4:8]
        if len(head) < 8 or (has_index and (kind == b"ftyp" or not _is_name(kind))):
            break
        box = int.from_bytes(head[:4], "big")
        if box == 1:
            box = int.from_bytes(head[8:16], "big")
        # 0: to the end
        place = place + max(box, 8) if box else size
        has_index = has_index or kind == b"moov"
    else:
        raise broken(name, f"it has more than {MAX_ELEMENTS} boxes", at_end=False)
    end = min(place if has_index else size, size)
    return _segment("mov", start, end, is_short=place > size, has_duration=True)


def _is_name(kind: bytes) -> bool:
    return all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in kind)


def matroska_segment(stream: BinaryIO, start: int, size: int, name: str) -> Segment:
    """Parse a Matroska or WebM file, to the end of its segment.

    Raises:
        AudioDecodeError: Code ``damaged``: absurdly many elements.
    """
    head = read_at(stream, start, _MATROSKA_INFO_BYTES)
    has_duration = any(duration in head for duration in _MATROSKA_DURATIONS)
    segment_end = _matroska_end(head)
    place = start + segment_end if segment_end else _elements_end(stream, start, size, name)
    return _segment("matroska", start, min(place, size), is_short=place > size, has_duration=has_duration)


def _elements_end(stream: BinaryIO, start: int, size: int, name: str) -> int:
    """Find the end of a Matroska segment that was written live: the end of the last element with a size."""
    place = start
    for _ in range(MAX_ELEMENTS):
        head = read_at(stream, place, 12)
        width = 9 - head[0].bit_length() if head else 9
        if width > 4 or (place > start and head.startswith(EBML_MAGIC)):
            return min(place, size) if width > 4 else place
        kind, body, num_bytes = head[:width], *vint(head[width:])
        place += width + body + (0 if kind in _OPEN_ELEMENTS else num_bytes)
        if place > size or not body:
            return max(place, size + 1)
    raise broken(name, f"it has more than {MAX_ELEMENTS} elements", at_end=False)


def vint(head: bytes) -> tuple[int, int]:
    """Read a Matroska size: (number of bytes it has, by its leading zero bits; its value)."""
    width = 9 - head[0].bit_length() if head else 9
    if width > 8 or len(head) < width:
        return 0, 0
    number = int.from_bytes(head[:width], "big") & (1 << 7 * width) - 1
    return width, 0 if number == (1 << 7 * width) - 1 else number  # all ones: not known


def asf_segment(stream: BinaryIO, start: int, size: int, name: str) -> Segment:
    """Parse a Windows Media file: to its declared end, or to where the next one starts."""
    del name
    declared = start + _asf_bytes(read_at(stream, start, _ASF_HEADER_BYTES))
    end = declared if start < declared <= size else find_next(stream, start + 1, size, ASF_MAGIC)
    # one shorter than declared: FFmpeg ignores its duration, and estimates
    is_short = declared > size
    return _segment("asf", start, end, is_short=is_short, has_duration=not is_short)


def amr_segment(stream: BinaryIO, start: int, size: int, name: str) -> Segment:
    """Parse an AMR file: to where the next one starts."""
    del name
    end = find_next(stream, start + 1, size, AMR_MAGIC)
    return _segment("amr", start, end, is_short=False, has_duration=False)


def _segment(demuxer: str, start: int, end: int, *, is_short: bool, has_duration: bool) -> Segment:
    return Segment(
        end=end,
        readers=(demuxer,),
        pieces=(range(start, end),),
        missing=math.inf if is_short else 0.0,
        has_duration=has_duration,
    )


def _matroska_end(head: bytes) -> int:
    """Return the end the Matroska segment declares; 0: none."""
    start = head.find(_SEGMENT) + len(_SEGMENT)
    width, num_bytes = vint(head[start:]) if start >= len(_SEGMENT) else (0, 0)
    return start + width + num_bytes if num_bytes else 0


def _asf_bytes(head: bytes) -> int:
    start = head.find(_ASF_PROPERTIES)
    if start < 0 or len(head) < start + _ASF_FLAGS + 4:
        return 0
    is_broadcast = head[start + _ASF_FLAGS] & 1
    return 0 if is_broadcast else struct.unpack_from("<Q", head, start + _ASF_FILE_SIZE)[0]
