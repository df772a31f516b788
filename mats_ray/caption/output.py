"""The output folder of a batch job: Parquet or JSONL parts, each wholly there or not at all.

One process writes, so a row is in the output when its part is, and a killed job leaves no half parts and no
row twice: whoever comes next reads the parts and does the rest.
"""

import io
import json
import time
import uuid
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mats_ray.caption.rows import SCHEMA
from mats_ray.errors import DataError
from mats_ray.storage import clear_pending, list_files, make_folder, read_bytes, remove, write_bytes

Kind = Literal["parquet", "jsonl"]

FIRST_FLUSH_SECONDS = 5.0
FLUSH_FRACTION = 0.01
"""Rows wait this share of the time since the start at most: a kill costs a hundredth of the work, and even a
long job leaves some hundreds of parts, not one for every few seconds."""

_SUFFIXES = (".parquet", ".jsonl")


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
        if touch:
            make_folder(out)
            clear_pending(out)

    def names(self) -> list[str]:
        """List the parts, sorted."""
        names = (one.name for one in list_files(self.out, recursive=False))
        return sorted(name for name in names if name.endswith(_SUFFIXES) and not name.startswith((".", "_")))

    def read(self, name: str) -> pa.Table:
        """Read one part.

        Raises:
            DataError: It holds no rows of this kind.
        """
        data = read_bytes(self._path(name))
        try:
            table = _unpacked(name, data)
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise DataError(f"{self._path(name)} cannot be read: {error}") from error
        if table.schema.names != SCHEMA.names:
            raise DataError(f"{self._path(name)} holds no caption rows; give the job a folder of its own")
        return table.cast(SCHEMA)

    def write(self, name: str, table: pa.Table) -> None:
        """Write or replace one part in one step.

        Raises:
            DataError: The storage refuses.
        """
        write_bytes(self._path(name), _packed(name, table))

    def keep(self, name: str, keep_N: np.ndarray) -> None:
        """Leave only some rows in a part; without any, it goes."""
        if keep_N.any():
            self.write(name, self.read(name).filter(pa.array(keep_N)))
        else:
            remove(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.out.rstrip('/')}/{name}"


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
