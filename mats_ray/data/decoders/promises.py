"""What containers say about their own length, which FFmpeg mixes with guesses of its own.

Where a file says how long it is and is shorter, it was cut off. AMR and raw AAC say nothing.
"""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

# Matroska's Duration, of 4 or 8 bytes: without it FFmpeg makes a length up from the bit rate
_MATROSKA_DURATIONS = (b"\x44\x89\x84", b"\x44\x89\x88")
_MATROSKA_INFO_BYTES = 8192
_SEGMENT = b"\x18\x53\x80\x67"
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_FILE_SIZE = 40  # its place in the properties, GUID included
_ASF_FLAGS = 88
_ASF_HEADER_BYTES = 65_536
_CAF_HEADER = 8
_MIN_BOX = 8


def announces_seconds(stream: BinaryIO, container: str) -> bool:
    """Whether the seconds FFmpeg reports stand in the file, and are no guess."""
    if container == "matroska":
        stream.seek(0)
        info = stream.read(_MATROSKA_INFO_BYTES)
        return any(duration in info for duration in _MATROSKA_DURATIONS)
    # an ASF file that is not as long as it says: FFmpeg no longer believes its seconds, and guesses
    return container == "mov" or (container == "asf" and not is_short(stream, container))


def is_short(stream: BinaryIO, container: str) -> bool:
    """Whether the file has fewer bytes than its outermost parts say."""
    num_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    match container:
        case "mov":
            return max(_box_ends(stream, num_bytes), default=0) > num_bytes
        case "caf":
            return max(_chunk_ends(stream, num_bytes), default=0) > num_bytes
        case "matroska":
            return _segment_end(stream.read(_MATROSKA_INFO_BYTES)) > num_bytes
        case "asf":
            return _asf_bytes(stream.read(_ASF_HEADER_BYTES)) > num_bytes
    return False


def _box_ends(stream: BinaryIO, num_bytes: int) -> Iterator[int]:
    start = 0
    while start < num_bytes:
        stream.seek(start)
        head = stream.read(16)
        if len(head) < 8:
            return
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        start = start + max(size, _MIN_BOX) if size else num_bytes  # 0: to the end
        yield start


def _chunk_ends(stream: BinaryIO, num_bytes: int) -> Iterator[int]:
    start = _CAF_HEADER
    while start < num_bytes:
        stream.seek(start)
        head = stream.read(12)
        size = int.from_bytes(head[4:], "big", signed=True)
        if len(head) < 12 or size < 0:  # -1: the data go on to the end
            return
        start += 12 + size
        yield start


def _segment_end(head: bytes) -> int:
    """Where the segment says to end: its size has as many leading zero bits as it has further bytes."""
    start = head.find(_SEGMENT) + len(_SEGMENT)
    first = head[start] if len(_SEGMENT) <= start < len(head) else 0
    if not first:
        return 0
    length = 9 - first.bit_length()
    size = int.from_bytes(head[start : start + length], "big") & (1 << 7 * length) - 1
    unknown = (1 << 7 * length) - 1
    return 0 if size == unknown else start + length + size


def _asf_bytes(head: bytes) -> int:
    start = head.find(_ASF_PROPERTIES)
    if start < 0 or len(head) < start + _ASF_FLAGS + 4:
        return 0
    is_broadcast = head[start + _ASF_FLAGS] & 1
    return 0 if is_broadcast else struct.unpack_from("<Q", head, start + _ASF_FILE_SIZE)[0]
