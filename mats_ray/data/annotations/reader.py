"""What a reader of annotation files takes and gives.

A reader is a generator: it holds no more than one record, or one clip's records, and gives every record it
meets as a ``Row``, a ``Dropped`` (understood, and left out for a reason) or a ``Rejected`` (not understood).
"""

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple, cast

import pyarrow as pa

from mats_ray.errors import DataError
from mats_ray.storage import exists, list_files, open_input, stat

_BUFFER_BYTES = 1 << 20
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".lz4": "lz4", ".zst": "zstd"}


class Row(NamedTuple):
    """One record, before instruction and, for labels, text are made."""

    number: int
    """Where it stands: line of the file, item of the list; from 1."""
    key: str
    """Names it within source and split, and stays the same when the file is read again."""
    text: str = ""
    """What stands in for the audio; empty: made from ``labels``."""
    labels: tuple[str, ...] = ()
    question: str = ""
    answer: str = ""
    """Empty: the text itself, or the labels."""
    split: str = ""
    """Where the record says so itself; otherwise the file's."""
    license: str = ""
    """Where it is known per record."""


class Dropped(NamedTuple):
    """A record that is fine and must not be trained on, or is of no use."""

    number: int
    reason: str
    """One of few: they are counted."""


class Rejected(NamedTuple):
    """A record nobody can use."""

    number: int
    reason: str


Entry = Row | Dropped | Rejected


@dataclass(slots=True)
class AnnotationFile:
    """One file (or folder of audio, where names are the annotation), and the files it needs beside."""

    path: str
    split: str
    companions: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Paths by role, e.g. ``blacklist``; a role nobody gave is absent."""
    bytes_read: int = 0

    @property
    def name(self) -> str:
        """Last part of the path."""
        return PurePosixPath(self.path).name

    def open(self) -> io.BufferedReader:
        """Open for reading bytes, decompressed where the name ends in .gz or the like; counts what is read.

        Raises:
            DataError: It cannot be read.
        """
        self.bytes_read = 0
        return open_bytes(self.path, self._count)

    def lines(self) -> Iterator[str]:
        """Yield lines without their end; bytes that are not UTF-8 come as lone surrogates."""
        with self.open() as stream:
            for line in io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="\n"):
                yield line.rstrip("\r\n")

    def require(self, role: str, what: str) -> tuple[str, ...]:
        """Return the companions of a role.

        Raises:
            DataError: There are none; says what is missing.
        """
        if paths := self.companions.get(role):
            return paths
        raise DataError(f"{self.path} needs {what}: name it in companions: {{{role}: PATH}}")

    def beside(self, path: str) -> "AnnotationFile":
        """A companion as a file of its own."""
        return AnnotationFile(path, self.split)

    def _count(self, num_bytes: int) -> None:
        self.bytes_read += num_bytes


Reader = Callable[[AnnotationFile], Iterator[Entry]]


def open_bytes(path: str, count: Callable[[int], None]) -> io.BufferedReader:
    """Open a local path or URI and report every read.

    Raises:
        DataError: It cannot be opened.
    """
    stream = pa.input_stream(open_input(path), compression=_COMPRESSIONS.get(PurePosixPath(path).suffix))
    return io.BufferedReader(_Counted(cast("io.RawIOBase", stream), count), _BUFFER_BYTES)


class _Counted(io.RawIOBase):
    def __init__(self, stream: io.RawIOBase, count: Callable[[int], None]) -> None:
        self._stream, self._count = stream, count

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        data = self._stream.read(len(buffer)) or b""
        buffer[: len(data)] = data
        self._count(len(data))
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def file_names(path: str) -> Iterator[str]:
    """Yield the names of audio files: all below a folder, sorted, or the lines of a text file.

    Raises:
        DataError: Nothing is there.
    """
    if stat(path) is not None:
        yield from (line.strip() for line in AnnotationFile(path, "").lines() if line.strip())
        return
    names = sorted(one.name for one in list_files(path))
    if not names and not exists(path):
        raise DataError(f"nothing at {path}")
    yield from names
