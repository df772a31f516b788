"""Parsers of chunked files: WAV (RIFF, RIFX, RF64, BW64), W64, AIFF, CAF, and AU, which has but one chunk.

The declared size of the samples is used unless it cannot be true: 0 with samples behind it, or "not known
yet", as programs write that stream and never come back. Then the samples reach to the end of the file.
"""

import math
from dataclasses import dataclass
from typing import BinaryIO, Literal

from mats_ray.data.decoders.limits import broken
from mats_ray.data.decoders.segments import MAX_ELEMENTS, SNDFILE, Segment, patched, read_at

RIFF_MAGICS = (b"RIFF", b"RIFX", b"RF64", b"BW64")
W64_MAGIC = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"

# from here on a 32-bit size is what streaming encoders write for "not known yet"
Order = Literal["big", "little"]
Patches = dict[tuple[int, int], bytes]

_UNKNOWN_SIZE = 0x7FFF_0000
_UNKNOWN_LONG_SIZE = 0x7FFF_FFFF_FFFF_0000
_PADDING_BYTES = 4096
"""Bytes left unread inside the declared size of a RIFF file: room for an edit, no audio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """Chunk format of a family of files."""

    id_bytes: int = 4
    size_bytes: int = 4
    order: Order
    counts_head: bool = False
    """The size is that of the whole chunk."""
    align: int
    data: bytes
    """Id of the samples."""
    ends: int = 0
    """End of the file by its header; 0: not declared."""

    def chunk(self, head: bytes, place: int) -> "_Chunk | None":
        """Read an id and a size; None where no chunk starts."""
        name, size = head[: self.id_bytes], head[self.id_bytes :]
        if len(size) < self.size_bytes or not all(0x20 <= byte < 0x7F for byte in name[:4]):
            return None
        number = int.from_bytes(size, self.order, signed=self.size_bytes == 8)
        return _Chunk(name, place + self.head_bytes, number - self.head_bytes * self.counts_head)

    @property
    def head_bytes(self) -> int:
        return self.id_bytes + self.size_bytes

    def sized(self, num_bytes: int) -> bytes:
        """Write a size, or "not known" where the field is too small for it."""
        number = min(num_bytes + self.head_bytes * self.counts_head, 2 ** (8 * self.size_bytes) - 1)
        return number.to_bytes(self.size_bytes, self.order)


@dataclass(frozen=True, slots=True)
class _Chunk:
    id: bytes
    start: int
    """Offset of its content."""
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    """The samples of a file, as they lie in it."""

    start: int
    declared: int
    """Number of bytes, as far as it is known."""
    end: int
    """End of the file's last chunk."""
    patches: Patches
    """For size fields that are wrong, and padding that lacks."""


def riff_segment(stream: BinaryIO, start: int, size: int, name: str) -> Segment:
    """Parse a WAV file of any kind."""
    head = read_at(stream, start, 12)
    order: Order = "big" if head[:4] == b"RIFX" else "little"
    counted = start + 8 + int.from_bytes(head[4:8], order)
    form = _Form(order=order, align=2, data=b"data", ends=counted)
    data = _samples(stream, start + 12, size, form, name)
    if data.patches and head[:4] in RIFF_MAGICS[:2]:
        data.patches[start + 4, start + 8] = form.sized(size - start - 8)
    if head[:4] == b"BW64":  # RF64 but for the name
        data.patches[start, start + 4] = b"RF64"
    if data.end + _PADDING_BYTES < counted <= size and any(read_at(stream, data.end, counted - data.end)):
        raise broken(name, "what follows its last chunk is no chunk", at_end=False)
    return _segment(data, start, size, "wav")


def w64_segment(stream: BinaryIO, start: int, size: int, name: str) -> Segment:
    """Parse a Sony Wave64 file."""
    guid = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
    form = _Form(id_bytes=16, size_bytes=8, order="little", counts_head=True, align=8, data=guid)
    data = _samples(stream, start + 40, size, form, name)
    return _segment(data, start, size, "w64")


def aiff_segment(stream: BinaryIO, start: int, size: int, name: str) -> Segment:
    """Parse an AIFF or AIFF-C file."""
    counted = start + 8 + int.from_bytes(read_at(stream, start + 4, 4), "big")
    form = _Form(order="big", align=2, data=b"SSND", ends=counted)
    data = _samples(stream, start + 12, size, form, name)
    return _segment(data, start, size, "aiff")


def caf_segment(stream: BinaryIO, start: int, size: int, name: str) -> Segment:
    """Parse a Core Audio file."""
    form = _Form(size_bytes=8, order="big", align=1, data=b"data")
    data = _samples(stream, start + 8, size, form, name)
    return _segment(data, start, size, "caf")


def au_segment(stream: BinaryIO, start: int, size: int, name: str) -> Segment:
    """Parse a Sun or NeXT file: its header holds the offset of the samples and their number of bytes."""
    head = read_at(stream, start, 12)
    order: Order = "big" if head[:4] == b".snd" else "little"
    if len(head) < 12:
        raise broken(name, "its head is incomplete", at_end=True)
    offset, declared = (int.from_bytes(head[at : at + 4], order) for at in (4, 8))
    first, rest = start + offset, max(0, size - start - offset)
    patches: Patches = {}
    if _is_unknown(declared, rest, 4):
        declared = rest
        patches[start + 8, start + 12] = min(rest, 2**32 - 1).to_bytes(4, order)
    data = _Data(start=first, declared=declared, end=first + declared, patches=patches)
    return _segment(data, start, size, "au")


def _samples(stream: BinaryIO, place: int, size: int, form: _Form, name: str) -> _Data:
    """Find the samples, and where the chunks end.

    Raises:
        AudioDecodeError: Codes ``truncated`` and ``damaged``: there are none.
    """
    long_size, found = None, None
    patches: Patches = {}
    for _ in range(MAX_ELEMENTS):
        chunk = _chunk_at(stream, place, form)
        if chunk is None or (found and _is_no_chunk(chunk, size)):
            break
        declared = chunk.size
        if chunk.start - form.head_bytes < place:
            patches[place - 1, place - 1] = b"\0"
        if chunk.id == b"ds64":
            long_size = chunk.start + 8
        if chunk.id == form.data and found is None:
            declared, mended = _declared(stream, chunk, size, form, long_size)
            found = (chunk.start, declared)
            patches |= mended
        if declared < 0 or chunk.start + declared > size:
            place = chunk.start + max(0, declared)
            break
        place = chunk.start + declared + (-declared % form.align)
    else:
        raise broken(name, f"it has more than {MAX_ELEMENTS} chunks", at_end=False)
    if found is None:
        raise broken(name, "it has no chunk of samples", at_end=place >= size - form.head_bytes)
    start, declared = found
    return _Data(start=start, declared=declared, end=min(place, size), patches=patches)


def _is_no_chunk(chunk: _Chunk, size: int) -> bool:
    """Whether what looks like a chunk behind the samples is another file, or anything else."""
    is_file = chunk.id in (*RIFF_MAGICS, b"FORM", b"caff", W64_MAGIC)
    return is_file or not 0 <= chunk.size <= size - chunk.start


def _chunk_at(stream: BinaryIO, place: int, form: _Form) -> _Chunk | None:
    chunk = form.chunk(read_at(stream, place, form.head_bytes), place)
    if chunk is None and form.align == 2:  # some write no padding behind an odd number of bytes
        chunk = form.chunk(read_at(stream, place - 1, form.head_bytes), place - 1)
    return chunk


def _declared(
    stream: BinaryIO, chunk: _Chunk, size: int, form: _Form, long_size: int | None
) -> tuple[int, Patches]:
    """Return the number of bytes of samples, and a patch of the size field where it does not say."""
    rest, field, declared = size - chunk.start, chunk.start - form.size_bytes, chunk.size
    if long_size is not None and declared in {0, 2**32 - 1}:
        declared = int.from_bytes(read_at(stream, long_size, 8), "little")
        patches = {(field, chunk.start): b"\xff" * 4}
        if declared in {0, 2**64 - 1}:
            declared = rest
            patches[long_size, long_size + 8] = rest.to_bytes(8, "little")
        return declared, patches
    following = _chunk_at(stream, chunk.start, form) if declared == 0 else None
    if following is not None and following.start + following.size <= size:  # no samples, and something else
        return 0, {}
    if _is_unknown(declared, rest, form.size_bytes):
        is_declared = chunk.start < form.ends < chunk.start + _UNKNOWN_SIZE
        declared = form.ends - chunk.start if is_declared else rest
        return declared, {(field, chunk.start): form.sized(min(rest, declared))}
    return declared, {}


def _is_unknown(declared: int, rest: int, size_bytes: int) -> bool:
    limit = _UNKNOWN_SIZE if size_bytes == 4 else _UNKNOWN_LONG_SIZE
    return rest > 0 and (declared <= 0 or limit <= declared > rest)


def _segment(data: _Data, start: int, size: int, demuxer: str) -> Segment:
    available = max(0, min(size - data.start, data.declared))
    beyond = data.declared - available
    end = min(data.end, size)
    return Segment(
        end=end,
        readers=(SNDFILE, demuxer),
        pieces=patched(start, end, data.patches),
        missing=beyond / available if available else math.inf if beyond else 0.0,
    )
