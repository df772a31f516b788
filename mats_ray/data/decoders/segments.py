"""Segments of a file: one audio file most often, several where they were joined.

The parsers (``riff_chunks``, ``mpeg_frames``, ``ogg_flac``, ``mp4_matroska_asf``) read the outermost
structure only and return where a segment ends, whether it once was longer, and what a reader has to see
instead of a size field that is wrong.
"""

import bisect
import io
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from mats_ray.errors import AudioDecodeError

SNDFILE = "libsndfile"
"""Name of the reader that is no demuxer of FFmpeg."""

MAX_ELEMENTS = 2**20
"""Largest number of chunks, boxes or pages in a file."""

_FURTHEST = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """An audio file, whole or within a larger one."""

    end: int
    """The first byte behind it."""
    readers: tuple[str, ...]
    """``SNDFILE`` or FFmpeg's demuxers, in the order they are tried: the first may not know the codec."""
    pieces: tuple[bytes | range, ...]
    """Content a reader sees: bytes, or ranges of the file."""
    missing: float = 0.0
    """Data declared beyond the end of the file, as a share of those that are there; infinite: not known."""
    declared_frames: int = 0
    """Number of samples per channel in its header; 0: not declared, or read by the reader."""
    has_duration: bool = False
    """The duration that FFmpeg reports is stored in the file, and is no estimate of its own."""
    frames: tuple[object, ...] = ()
    """Kind of its frames, where it is a bare stream of frames."""
    has_frame_count: bool = True
    """A stored count shows when frames are lost."""


class View(io.RawIOBase):
    """Pieces of a stream as one stream. libsndfile and FFmpeg read through it, by path and in memory alike.

    They call it from C, where an exception would be printed and lost: a failed read is kept instead.

    Attributes:
        failure: Error of the operating system when a read failed.
    """

    def __init__(self, stream: BinaryIO, pieces: Sequence[bytes | range]) -> None:
        self._stream = stream
        self._pieces = [piece for piece in pieces if len(piece)]
        self._starts = [0, *itertools.accumulate(map(len, self._pieces))]
        self._place = 0
        self.failure: OSError | None = None

    @contextmanager
    def reraising(self) -> Iterator[None]:
        """Raise the error of a failed read in place of the one the reader makes of it."""
        try:
            yield
        except AudioDecodeError:
            if self.failure is None:
                raise
        if self.failure is not None:
            raise self.failure

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move, but not where no file can reach: a damaged header may seek there, which has no effect."""
        target = (0, self._place, self._starts[-1])[whence] + offset
        if 0 <= target <= _FURTHEST:
            self._place = target
        return self._place

    def readinto(self, buffer: object, /) -> int:
        """Fill the buffer, up to the end."""
        room, filled = memoryview(buffer).cast("B"), 0  # type: ignore[arg-type]
        try:
            while filled < len(room) and (count := self._read_some(room[filled:])):
                filled += count
                self._place += count
        except OSError as error:
            self.failure = error
        return filled

    def _read_some(self, room: memoryview) -> int:
        index = bisect.bisect_right(self._starts, self._place) - 1
        if index == len(self._pieces):
            return 0
        piece, offset = self._pieces[index], self._place - self._starts[index]
        count = min(len(room), len(piece) - offset)
        if isinstance(piece, bytes):
            room[:count] = piece[offset : offset + count]
            return count
        self._stream.seek(piece.start + offset)
        return self._stream.readinto(room[:count])  # type: ignore[attr-defined]


def read_at(stream: BinaryIO, place: int, count: int) -> bytes:
    """Read up to ``count`` bytes from a place, none where no file can reach."""
    if not 0 <= place <= _FURTHEST:
        return b""
    stream.seek(place)
    return stream.read(count)


def patched(start: int, end: int, patches: Mapping[tuple[int, int], bytes]) -> tuple[bytes | range, ...]:
    """Make the pieces of a segment in which places, from a first byte to behind a last, are replaced."""
    pieces: list[bytes | range] = []
    for (first, behind), new in sorted(patches.items()):
        pieces += [range(start, first), new]
        start = behind
    return (*pieces, range(start, end))


def find_next(stream: BinaryIO, start: int, size: int, *marks: bytes) -> int:
    """Find where one of some equally long marks stands next from ``start`` on; ``size`` where none does."""
    stream.seek(start)
    pattern, overlap = re.compile(b"|".join(map(re.escape, marks))), len(marks[0]) - 1
    held, place = b"", start
    while block := stream.read(1 << 20):
        held += block
        if found := pattern.search(held):
            return place + found.start()
        place += max(0, len(held) - overlap)
        held = held[-overlap:]
    return size
