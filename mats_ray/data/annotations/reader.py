"""Input and output of a reader of annotation files.

A reader is a generator: it holds no more than one record, or one clip's records, and yields an ``Entry`` for
every record: a ``Row``, a ``Dropped`` (valid, and left out for a reason) or a ``Rejected`` (not usable).
"""

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple, cast

import pyarrow as pa

from mats_ray.errors import DataError, StorageError
from mats_ray.storage import exists, list_files, open_input, stat
from mats_ray.tasks import Task

_BUFFER_BYTES = 1 << 20
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".lz4": "lz4", ".zst": "zstd"}


class Row(NamedTuple):
    """One record, before instruction and, for labels, text are added."""

    number: int
    """Position: line of the file, item of the list; from 1."""
    key: str
    """Unique within source and split, and the same whenever the file is read."""
    text: str = ""
    """Text in place of the audio; empty: built from ``labels``."""
    labels: tuple[str, ...] = ()
    question: str = ""
    """Instruction of the record; empty: drawn from the prompts of the task."""
    answer: str = ""
    """Empty: the text itself, or the labels."""
    split: str = ""
    """Split of the record where it names one; otherwise the file's."""
    license: str = ""
    """Licence of the record where it is known."""
    task: Task | None = None
    """Task of the record where it is not that of its source."""


class Dropped(NamedTuple):
    """A valid record that must not be trained on, or is of no use."""

    number: int
    reason: str
    """One of a few reasons: records are counted by it."""


class Rejected(NamedTuple):
    """A record that cannot be used."""

    number: int
    reason: str


Entry = Row | Dropped | Rejected


class EnoughReadError(Exception):
    """``AnnotationFile.max_bytes`` are read: the start of the file is as its source publishes it."""


@dataclass(slots=True)
class AnnotationFile:
    """One file (or folder of audio, where names are the annotation), and the files it needs beside."""

    path: str
    split: str
    companions: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Paths by role, e.g. ``blacklist``; a role without files is absent."""
    bytes_read: int = 0
    max_bytes: int | None = None
    """Reading ends with ``EnoughReadError`` after about so many bytes, in companions too; None: no limit."""

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
            DataError: There are none; names what is missing.
        """
        if paths := self.companions.get(role):
            return paths
        raise DataError(f"{self.path} needs {what}: name it in companions: {{{role}: PATH}}")

    def companion(self, path: str) -> "AnnotationFile":
        """Return a companion as a file of its own."""
        return AnnotationFile(path, self.split, max_bytes=self.max_bytes)

    def _count(self, num_bytes: int) -> None:
        self.bytes_read += num_bytes
        if self.max_bytes is not None and self.bytes_read > self.max_bytes:
            raise EnoughReadError


Reader = Callable[[AnnotationFile], Iterator[Entry]]


def open_bytes(path: str, count: Callable[[int], None]) -> io.BufferedReader:
    """Open a local path or URI and report every read.

    Raises:
        DataError: It cannot be opened.
    """
    stream = pa.input_stream(open_input(path), compression=_COMPRESSIONS.get(PurePosixPath(path).suffix))
    return io.BufferedReader(_Counted(cast("io.RawIOBase", stream), path, count), _BUFFER_BYTES)


class _Counted(io.RawIOBase):
    def __init__(self, stream: io.RawIOBase, path: str, count: Callable[[int], None]) -> None:
        self._stream, self._path, self._count = stream, path, count

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            data = self._stream.read(len(buffer)) or b""
        except StorageError:
            raise
        except OSError as error:
            raise DataError(f"{self._path} is compressed and damaged, or not compressed: {error}") from error
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
