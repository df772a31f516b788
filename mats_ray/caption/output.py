"""The output folder of a batch job: Parquet or JSONL part files, each of them complete or absent.

One process writes, so a row is in the output when its part is, and a killed job leaves no incomplete parts
and no row twice: the next run reads the parts and writes the missing rows.
"""

import io
import json
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mats_ray.caption.rows import SCHEMA
from mats_ray.errors import DataError
from mats_ray.storage import clear_pending, exists, list_files, make_folder, read_bytes, remove, write_bytes

Format = Literal["parquet", "jsonl"]

FIRST_FLUSH_SECONDS = 5.0
FLUSH_FRACTION = 0.01
"""Maximum wait of a row, as a share of the time since the start: a killed job loses a hundredth of its work,
and even a long one writes some hundreds of parts, not one for every few seconds."""

SUMMARY = "_summary.json"
_SUFFIXES = (".parquet", ".jsonl")


class PartStore:
    """Parts of one output folder, local or remote.

    Args:
        out: The folder.
        create: Create it if it is absent, and remove incomplete files of a killed run.
        schema: Of all parts.

    Raises:
        DataError: There is a file where the folder should be, or it cannot be created.
    """

    def __init__(self, out: str, *, create: bool = True, schema: pa.Schema = SCHEMA) -> None:
        self.out, self._schema = out, schema
        if create:
            make_folder(out)
            clear_pending(out)

    def names(self) -> list[str]:
        """List the part files, sorted."""
        names = (file.name for file in list_files(self.out, recursive=False))
        return sorted(name for name in names if name.endswith(_SUFFIXES) and not name.startswith((".", "_")))

    def read(self, name: str) -> pa.Table:
        """Read one part.

        Raises:
            DataError: It cannot be read, or holds other rows.
        """
        data = read_bytes(self._path(name))
        try:
            table = _from_bytes(name, data, self._schema)
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise DataError(f"{self._path(name)} cannot be read: {error}") from error
        if table.schema.names != self._schema.names:
            raise DataError(
                f"{self._path(name)} holds other rows than this job's; give it a folder of its own"
            )
        return table.cast(self._schema)

    def write(self, name: str, table: pa.Table) -> None:
        """Write or replace one part in one step.

        Raises:
            DataError: The storage refuses.
        """
        write_bytes(self._path(name), _to_bytes(name, table))

    def keep_rows(self, name: str, keep_N: np.ndarray) -> None:
        """Remove the other rows of a part; one without any rows is removed."""
        if keep_N.any():
            self.write(name, self.read(name).filter(pa.array(keep_N)))
        else:
            remove(self._path(name))

    def has_summary(self) -> bool:
        """Whether a run wrote its summary here."""
        return exists(self._path(SUMMARY))

    def write_summary(self, tree: Mapping[str, Any]) -> None:
        """Write ``_summary.json``; readers of the folder skip names that begin with an underscore."""
        text = json.dumps(tree, indent=1, ensure_ascii=False)
        write_bytes(self._path(SUMMARY), f"{text}\n".encode())

    def _path(self, name: str) -> str:
        return f"{self.out.rstrip('/')}/{name}"


class PartWriter:
    """Context manager that collects rows and writes part files, the last at its exit, also by an error."""

    def __init__(self, store: PartStore, *, file_format: Format = "parquet") -> None:
        self._store, self._format, self._buffer = store, file_format, list[pa.Table]()
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
        """Buffer rows, and write the buffer if it is time to."""
        self._buffer.append(table)
        now = time.monotonic()
        if now - self._flushed >= max(FIRST_FLUSH_SECONDS, FLUSH_FRACTION * (now - self._started)):
            self.flush()

    def flush(self) -> None:
        """Write the buffered rows as one part."""
        if not any(len(table) for table in self._buffer):
            return
        self._store.write(
            f"part-{self._run}-{self._num_parts:05d}.{self._format}", pa.concat_tables(self._buffer)
        )
        self._num_parts, self._buffer, self._flushed = self._num_parts + 1, [], time.monotonic()


def _to_bytes(name: str, table: pa.Table) -> bytes:
    if name.endswith(".jsonl"):
        return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in table.to_pylist()).encode()
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _from_bytes(name: str, data: bytes, schema: pa.Schema) -> pa.Table:
    if not name.endswith(".jsonl"):
        return pq.read_table(io.BytesIO(data))
    rows = [json.loads(line) for line in data.decode().split("\n") if line]
    if any(list(row) != schema.names for row in rows):
        return pa.table({})
    return pa.Table.from_pylist(rows, schema=schema)
