"""Tags in front of, between and behind files of any kind: ID3, APE, Lyrics3, a Matroska void."""

import re
import struct
from typing import BinaryIO

from mats_ray.data.decoders.mp4_matroska_asf import vint
from mats_ray.data.decoders.segments import read_at

_ID3_BYTES = 10
_ID3_FOOTER = 0x10
_APE_BYTES = 32
_APE_IS_HEADER = 1 << 29
_LYRICS_BYTES = 65_536
_LYRICS_END = re.compile(b"LYRICS200|LYRICSEND")
_EBML_VOID = b"\xec"


def tag_bytes(stream: BinaryIO, place: int) -> int:
    """Return the number of bytes of the tag that starts here; 0: there is none."""
    head = read_at(stream, place, _APE_BYTES)
    if head.startswith(b"ID3") and len(head) >= _ID3_BYTES and max(head[6:10]) < 0x80:
        length = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        return _ID3_BYTES + length + _ID3_BYTES * bool(head[5] & _ID3_FOOTER)
    if head.startswith(b"APETAGEX") and len(head) == _APE_BYTES:
        length, flags = struct.unpack_from("<I4xI", head, 12)
        return _APE_BYTES + length * bool(flags & _APE_IS_HEADER)
    if head.startswith(b"TAG"):
        return 227 if head.startswith(b"TAG+") else 128
    if head.startswith(b"LYRICSBEGIN"):
        end = _LYRICS_END.search(read_at(stream, place, _LYRICS_BYTES))
        return end.end() if end else 0
    if head.startswith(_EBML_VOID):
        return 1 + sum(vint(head[1:]))
    return 0
