"""The output folder of a batch job: Parquet or JSONL parts, each wholly there or not at all.

One process writes, so a row is in the output when its part is, and a killed job leaves no half parts and no
row twice: whoever comes next reads the parts and does the rest.
"""

import contextlib
import io
import json
import os
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.spec import AbstractFileSystem

from mats_ray.data.objects import is_remote, open_storage, persistently, read_bytes
from mats_ray.errors import DataError
from mats_ray.infer.rows import SCHEMA

Kind = Literal["parquet", "jsonl"]

FIRST_FLUSH_SECONDS = 5.0
FLUSH_FRACTION = 0.01
"""Rows wait this share of the time since the start at most: a kill costs a hundredth of the work, and even a
long job leaves some hundreds of parts, not one for every few seconds."""

_SUFFIXES, _PENDING = (".parquet", ".jsonl"), ".pending"


class PartStore:
    """Parts of one output folder, local or remote.

    Args:
        out: The folder.
        touch: Make it if it is absent, and clear what a killed run left half-written.

    Raises:
        DataError: There is a file where the folder should be, or it cannot be made.
    """

    def __init__(self, out: str, *, touch: bool = True) -> None:
        self.out = out
        self._remote = is_remote(out)
        self._files, self._folder = open_storage(out)
        if self._remote or not touch:
            return
        try:
            Path(self._folder).mkdir(parents=True, exist_ok=True)
            for left_over in Path(self._folder).glob(f".*{_PENDING}"):
                left_over.unlink()
        except OSError as error:
            raise DataError(f"the output folder {out} cannot be used: {error.strerror}") from error

    def names(self) -> list[str]:
        """List the parts, sorted."""
        return sorted(
            name
            for entry in _entries(self._files, self._folder, self.out)
            if (name := entry.rsplit("/", 1)[-1]).endswith(_SUFFIXES) and not name.startswith((".", "_"))
        )

    def read(self, name: str) -> pa.Table:
        """Read one part.

        Raises:
            DataError: It holds no rows of this kind.
        """
        try:
            table = _unpacked(name, persistently(lambda: read_bytes(self._files, self._path(name))))
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise DataError(f"{self.out}/{name} cannot be read: {error}") from error
        if table.schema.names != SCHEMA.names:
            raise DataError(f"{self.out}/{name} holds no caption rows; give the job a folder of its own")
        return table.cast(SCHEMA)

    def write(self, name: str, table: pa.Table) -> None:
        """Write or replace one part in one step.

        Raises:
            DataError: The storage refuses.
        """
        data = _packed(name, table)
        try:
            if self._remote:  # one PUT, seen whole or not at all
                persistently(lambda: self._files.pipe_file(self._path(name), data))
            else:
                _replace(Path(self._path(name)), data)
        except OSError as error:
            raise DataError(f"{self.out}/{name} cannot be written: {error}") from error

    def keep(self, name: str, keep_N: np.ndarray) -> None:
        """Leave only some rows in a part; without any, it goes."""
        if keep_N.any():
            self.write(name, self.read(name).filter(pa.array(keep_N)))
        else:
            self._files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._folder.rstrip('/')}/{name}"


class PartWriter:
    """Collects rows and writes them as parts, the rest when left, also when left by an error."""

    def __init__(self, store: PartStore, *, kind: Kind = "parquet") -> None:
        self._store, self._kind, self._waiting = store, kind, list[pa.Table]()
        self._run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
        self._num_parts = 0
        self._started = self._flushed = time.monotonic()

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()

    def add(self, table: pa.Table) -> None:
        """Take rows over; they are written now or soon."""
        self._waiting.append(table)
        now = time.monotonic()
        if now - self._flushed >= max(FIRST_FLUSH_SECONDS, FLUSH_FRACTION * (now - self._started)):
            self.flush()

    def flush(self) -> None:
        """Write what waits as one part."""
        if not any(len(table) for table in self._waiting):
            return
        self._store.write(
            f"part-{self._run}-{self._num_parts:05d}.{self._kind}", pa.concat_tables(self._waiting)
        )
        self._num_parts, self._waiting, self._flushed = self._num_parts + 1, [], time.monotonic()


def _packed(name: str, table: pa.Table) -> bytes:
    if name.endswith(".jsonl"):
        return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in table.to_pylist()).encode()
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _unpacked(name: str, data: bytes) -> pa.Table:
    if not name.endswith(".jsonl"):
        return pq.read_table(io.BytesIO(data))
    rows = [json.loads(line) for line in data.decode().split("\n") if line]
    if any(list(row) != SCHEMA.names for row in rows):
        return pa.table({})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _entries(files: AbstractFileSystem, folder: str, out: str) -> list[str]:
    try:
        return [str(entry) for entry in persistently(lambda: files.ls(folder, detail=False))]
    except FileNotFoundError:
        return []
    except Exception as error:  # every kind of store has its own
        raise DataError(f"{out} cannot be listed: {type(error).__name__}: {error}") from error


def _replace(path: Path, data: bytes) -> None:
    """Write beside, then rename: readers and the next run see the old part or the new one."""
    pending = path.with_name(f".{path.name}{_PENDING}")
    try:
        with pending.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        pending.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            pending.unlink()
