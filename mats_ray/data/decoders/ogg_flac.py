"""Parsers of Ogg, in pages, and of FLAC, whose frames only a decoder can count."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from mats_ray.data.decoders.limits import broken
from mats_ray.data.decoders.segments import MAX_ELEMENTS, SNDFILE, Segment, find_next, patched, read_at

_PAGE_HEAD = 27
_FIRST = 2
_SNDFILE_CODECS = (b"\x01vorbis", b"OpusHead")
# a FLAC file starts with the description of its stream, which has 34 bytes
_FLAC_MARKS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
_COUNT_BITS = 2**36 - 1


@dataclass(frozen=True, slots=True)
class _Page:
    start: int
    end: int
    """As declared."""
    flags: int
    serial: bytes
    """Empty where a page is cut off within its head."""
    number: int
    codec: bytes
    """First bytes of its first packet."""


def ogg_segment(stream: BinaryIO, start: int, size: int, name: str) -> Segment:
    """Parse one link of an Ogg file: its streams start together, and the next link's after them.

    Raises:
        AudioDecodeError: Code ``damaged``: pages are missing.
    """
    codecs, next_number = list[bytes](), dict[bytes, int]()
    end, missing, in_heads = start, 0.0, True
    for page in _pages(stream, start, size, name):
        if not page.serial:
            end, missing = size, math.inf
            break
        is_first = bool(page.flags & _FIRST)
        if is_first and not in_heads:
            break
        in_heads = is_first
        if is_first:
            codecs.append(page.codec)
        elif page.number != next_number.get(page.serial, page.number):
            raise broken(name, f"pages are missing before its byte {page.start}", at_end=False)
        elif page.serial not in next_number:
            raise broken(name, "a page belongs to no stream", at_end=False)
        next_number[page.serial] = page.number + 1
        end = min(page.end, size)
        missing = math.inf if page.end > size else 0.0
    by_sndfile = len(codecs) == 1 and codecs[0].startswith(_SNDFILE_CODECS)
    return Segment(
        end=end,
        readers=(SNDFILE,) if by_sndfile else ("ogg",),
        pieces=(range(start, end),),
        missing=missing,
    )


def _pages(stream: BinaryIO, start: int, size: int, name: str) -> Iterator[_Page]:
    place = start
    for _ in range(MAX_ELEMENTS):
        head = read_at(stream, place, _PAGE_HEAD + 255 + 8)
        if head[:4] != b"OggS"[: len(head)] or not head:
            return
        if len(head) < _PAGE_HEAD or len(head) < _PAGE_HEAD + head[26]:
            yield _Page(place, size + 1, 0, b"", 0, b"")
            return
        body = _PAGE_HEAD + head[26]
        end = place + body + sum(head[_PAGE_HEAD:body])
        number = int.from_bytes(head[18:22], "little")
        yield _Page(place, end, head[5], head[14:18], number, head[body : body + 8])
        place = end
    raise broken(name, f"it has more than {MAX_ELEMENTS} pages", at_end=False)


def flac_segment(stream: BinaryIO, start: int, size: int, name: str) -> Segment:
    """Parse a FLAC file: to the next one, or the end; samples beyond the declared number are read, too."""
    del name
    head = read_at(stream, start, 42)
    end = find_next(stream, start + 1, size, *_FLAC_MARKS)
    if head[:8] not in _FLAC_MARKS or len(head) < 42:
        return Segment(end=end, readers=(SNDFILE,), pieces=(range(start, end),))
    described = int.from_bytes(head[18:26], "big")
    unknown = (described & ~_COUNT_BITS).to_bytes(8, "big")
    return Segment(
        end=end,
        readers=(SNDFILE,),
        pieces=patched(start, end, {(start + 18, start + 26): unknown}),
        declared_frames=described & _COUNT_BITS,
    )
