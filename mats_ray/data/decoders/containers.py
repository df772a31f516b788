"""Files that only FFmpeg reads, told by their first bytes.

FFmpeg is handed nothing else, and is told the container: it never guesses, so a playlist, a subtitle or a
list of other files is no audio here.
"""

from typing import BinaryIO

DEMUXERS = ("mov", "matroska", "asf", "amr", "aac")
"""FFmpeg's names of the containers told apart here."""

_HEAD_BYTES = 16
_ID3_BYTES = 10
_EBML = b"\x1a\x45\xdf\xa3"
_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
# QuickTime's files need no "ftyp"; any of these may come first
_MOV_ATOMS = {b"ftyp", b"moov", b"mdat", b"wide", b"pnot"}


def container_of(stream: BinaryIO) -> str | None:
    """Name FFmpeg's demuxer for m4a, mp4, mov, 3gp, webm, mka, wma, amr and raw AAC; None for all else."""
    head = _head(stream, 0)
    if head.startswith(b"ID3") and len(head) == _HEAD_BYTES:
        # of tagged streams only AAC is meant; MP3 has its layer where AAC has zeros
        return "aac" if _is_adts(_head(stream, _id3_length(head))) else None
    if head[4:8] in _MOV_ATOMS:
        return "mov"
    for magic, name in ((_EBML, "matroska"), (_ASF, "asf"), (b"#!AMR", "amr")):
        if head.startswith(magic):
            return name
    return "aac" if _is_adts(head) else None


def _is_adts(head: bytes) -> bool:
    """Twelve ones and the layer zero, which is no layer of MPEG audio; then a sample rate of the table."""
    return len(head) > 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0 and head[2] >> 2 & 0x0F < 13


def _id3_length(head: bytes) -> int:
    size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return _ID3_BYTES + size


def _head(stream: BinaryIO, offset: int) -> bytes:
    stream.seek(offset)
    return stream.read(_HEAD_BYTES)
