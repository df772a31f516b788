"""The output folder of a batch job: Parquet or JSONL part files, each of them complete or absent.

One process writes, so a row is in the output when its part is, and a killed job leaves no incomplete parts.
The rows of a part are sorted by path, and read by ranges of it: what is known of some files is found without
reading the rest. Shapes: N rows of a table.
"""

# pyarrow.compute makes its functions when it is imported
# pyright: reportAttributeAccessIssue=false

import bisect
import io
import itertools
import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mats_ray.caption.rows import SCHEMA
from mats_ray.errors import DataError, StorageError
from mats_ray.storage import (
    clear_pending,
    exists,
    list_files,
    make_folder,
    open_input,
    read_bytes,
    remove,
    write_bytes,
)

Format = Literal["parquet", "jsonl"]

FIRST_FLUSH_SECONDS = 5.0
FLUSH_FRACTION = 0.01
"""Maximum wait of a row, as a share of the time since the start: a killed job loses a hundredth of its
work."""
WRITE_FRACTION = 0.05
"""Maximum share of the time that is spent writing."""
ROWS_PER_GROUP = 16_384
"""Number of rows that are read together."""
NUM_READERS = 16
_LINES_AT_A_TIME = 8_192
"""Rows of JSON Lines that are Python objects at the same time."""

SUMMARY = "_summary.json"
_SUFFIXES = (".parquet", ".jsonl")
_LAST = "\U0010ffff"

PairKey = tuple[str, str, str]
"""Path, task and prompt."""


@dataclass(frozen=True, slots=True)
class _Span:
    """A row group: where it is in its part, and its first and last path in the order of paths."""

    first: int
    num_rows: int
    least: str
    greatest: str


@dataclass(frozen=True, slots=True, eq=False)
class FoundRows:
    """Rows of one part."""

    part: str
    row_N: np.ndarray
    """Their places in it."""
    table: pa.Table


class OutputFolder:
    """What every kind of output has: a folder or prefix, and a summary in it."""

    def __init__(self, out: str) -> None:
        self.out = out

    def read_summary(self) -> dict[str, Any] | None:
        """Return the summary that the last run wrote here; None where there is none that can be read."""
        if not exists(self._path(SUMMARY)):
            return None
        try:
            return json.loads(read_bytes(self._path(SUMMARY)))
        except ValueError:
            return None

    def write_summary(self, tree: Mapping[str, Any]) -> None:
        """Write ``_summary.json``; readers of the folder skip names that begin with an underscore."""
        text = json.dumps(tree, indent=1, ensure_ascii=False)
        write_bytes(self._path(SUMMARY), f"{text}\n".encode())

    def _path(self, name: str) -> str:
        return f"{self.out.rstrip('/')}/{name}"


class FlushTimer:
    """When rows that wait are to be written."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """Spent on writing."""
        self._started = self._flushed = time.monotonic()
        self._last_seconds = 0.0

    def is_due(self) -> bool:
        """Whether rows have waited long enough."""
        now = time.monotonic()
        waits = FIRST_FLUSH_SECONDS, FLUSH_FRACTION * (now - self._started)
        return now - self._flushed >= max(*waits, min(self._last_seconds / WRITE_FRACTION, 60 * waits[0]))

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        """Count the time since it was entered as that of a write."""
        self._flushed = time.monotonic()
        self._last_seconds = self._flushed - self._began
        self.seconds += self._last_seconds


class RowWriter(ABC):
    """Context manager that collects rows and writes them: the last at its exit, also by an error."""

    def __init__(self) -> None:
        self._timer = FlushTimer()

    @abstractmethod
    def flush(self) -> None:
        """Write the rows that wait."""

    def close(self) -> None:
        """Write the rows that wait; there are no more."""
        self.flush()

    @property
    def seconds(self) -> float:
        """Seconds spent on writing."""
        return self._timer.seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()


class PartStore(OutputFolder):
    """Parts of one output folder, local or remote.

    Args:
        out: The folder.
        create: Create it if it is absent, and remove incomplete files of a killed run.
        schema: Of all parts.
        rows_per_group: Number of rows that are read together.

    Raises:
        DataError: There is a file where the folder should be, or it cannot be created.
    """

    def __init__(
        self,
        out: str,
        *,
        create: bool = True,
        schema: pa.Schema = SCHEMA,
        rows_per_group: int = ROWS_PER_GROUP,
    ) -> None:
        super().__init__(out)
        self.schema, self._rows_per_group = schema, rows_per_group
        self._spans: dict[str, Sequence[_Span]] | None = None
        self._one_at_a_time = threading.Lock()
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
        with self._reading(name):
            table = _from_bytes(name, read_bytes(self._path(name)), self.schema)
        self._check(name, table.schema)
        return table.cast(self.schema)

    def write(self, name: str, table: pa.Table) -> None:
        """Write or replace one part in one step.

        Raises:
            DataError: The storage refuses.
        """
        write_bytes(self._path(name), _to_bytes(name, table, self._rows_per_group))
        if self._spans is not None:
            group = self._rows_per_group if name.endswith(".parquet") else max(len(table), 1)
            self._spans[name] = _spans(table, group)

    def remove(self, name: str) -> None:
        """Remove one part."""
        remove(self._path(name))
        if self._spans is not None:
            self._spans.pop(name, None)

    def num_rows(self) -> dict[str, int]:
        """Return the number of rows of each part."""
        return {name: sum(span.num_rows for span in spans) for name, spans in self._index().items()}

    def last_path(self, prefix: str) -> str | None:
        """Return a path with a prefix behind which few others are known, or None."""
        every = list(self._index().values())  # another thread may write a part meanwhile
        greatest = (span.greatest for spans in every for span in spans)
        return max((path for path in greatest if path.startswith(prefix)), default=None)

    def find(self, paths: pa.Array, columns: Sequence[str], *, without: str = "") -> Iterator[FoundRows]:
        """Yield the rows of some files, part by part; reads only where these paths can be.

        Args:
            paths: Of the files.
            columns: To be read, ``path`` among them.
            without: Name of a part that is not read.

        Raises:
            DataError: A part cannot be read, or holds other rows.
        """
        ordered = sorted(paths.to_pylist())
        for name, spans in sorted(self._index().items()):
            wanted = [n for n, span in enumerate(spans) if _overlaps(ordered, span)]
            if not wanted or name == without:
                continue
            table = self._read_spans(name, wanted, columns)
            rows = [np.arange(spans[n].first, spans[n].first + spans[n].num_rows) for n in wanted]
            mask = pc.is_in(table["path"], value_set=paths)
            keep_N = mask.to_numpy()
            if keep_N.any():
                yield FoundRows(part=name, row_N=np.concatenate(rows)[keep_N], table=table.filter(mask))

    def _index(self) -> dict[str, Sequence[_Span]]:
        """Return the row groups of every part, read once."""
        if self._spans is None:
            names = self.names()
            with ThreadPoolExecutor(NUM_READERS) as pool:
                self._spans = dict(zip(names, pool.map(self._spans_of, names), strict=True))
        return self._spans

    def _spans_of(self, name: str) -> list[_Span]:
        if name.endswith(".jsonl"):
            with self._one_at_a_time:  # a part of JSON Lines is read whole
                table = self.read(name)
            return _spans(table, max(len(table), 1))
        with self._reading(name), open_input(self._path(name)) as file:
            part = pq.ParquetFile(file)
            self._check(name, part.schema_arrow)
            return _spans_of_groups(part.metadata)

    def _read_spans(self, name: str, spans: Sequence[int], columns: Sequence[str]) -> pa.Table:
        if name.endswith(".jsonl"):
            return self.read(name).select(columns)
        with self._reading(name), open_input(self._path(name)) as file:
            part = pq.ParquetFile(file, pre_buffer=True)
            if max(spans) >= part.num_row_groups:
                raise DataError(f"{self._path(name)} was changed by another process")
            table = part.read_row_groups(spans, columns=list(columns))
        return table.select(columns).cast(pa.schema([self.schema.field(one) for one in columns]))

    def _check(self, name: str, schema: pa.Schema) -> None:
        if schema.names != self.schema.names:
            raise DataError(
                f"{self._path(name)} holds other rows than this job's; give it a folder of its own"
            )

    def _reading(self, name: str) -> "_Reading":
        return _Reading(self._path(name))


class _Reading:
    """Context manager: names the part that cannot be read."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, StorageError):
            return
        if isinstance(error, pa.ArrowException | OSError | ValueError):
            raise DataError(f"{self._path} cannot be read: {error}") from error


def pair_mask(table: pa.Table, pairs: Set[PairKey]) -> np.ndarray:
    """Return which rows are of some pairs of file and prompt: (N,) bool."""
    paths = pa.array({path for path, _, _ in pairs}, pa.string())
    candidates = np.flatnonzero(pc.is_in(table["path"], value_set=paths).to_numpy())
    columns = (table[name].take(pa.array(candidates)).to_pylist() for name in ("path", "task", "prompt"))
    mask_N = np.zeros(len(table), dtype=bool)
    mask_N[[n for n, *key in zip(candidates, *columns, strict=True) if tuple(key) in pairs]] = True
    return mask_N


def _overlaps(paths: Sequence[str], span: _Span) -> bool:
    at = bisect.bisect_left(paths, span.least)
    return at < len(paths) and paths[at] <= span.greatest


def _spans(table: pa.Table, rows: int) -> list[_Span]:
    """Return the row groups of a table, each of a number of rows."""
    groups = [table["path"].slice(first, rows) for first in range(0, len(table), rows)]
    bounds = [pc.min_max(group).as_py() for group in groups]
    return [
        _Span(rows * n, len(group), one["min"], one["max"])
        for n, (group, one) in enumerate(zip(groups, bounds, strict=True))
    ]


def _spans_of_groups(metadata: pq.FileMetaData) -> list[_Span]:
    spans, first = list[_Span](), 0
    column = metadata.schema.names.index("path")
    for n in range(metadata.num_row_groups):
        group = metadata.row_group(n)
        found = group.column(column).statistics
        bounds = ("", _LAST)
        if found is not None and found.has_min_max:
            bounds = (found.min, found.max)
        spans.append(_Span(first, group.num_rows, *bounds))
        first += group.num_rows
    return spans


def _to_bytes(name: str, table: pa.Table, rows_per_group: int) -> bytes:
    if name.endswith(".jsonl"):
        batches = (batch.to_pylist() for batch in table.to_batches(max_chunksize=_LINES_AT_A_TIME))
        return b"".join(
            f"{json.dumps(row, ensure_ascii=False)}\n".encode() for rows in batches for row in rows
        )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=rows_per_group)
    return buffer.getvalue()


def _from_bytes(name: str, data: bytes, schema: pa.Schema) -> pa.Table:
    if not name.endswith(".jsonl"):
        return pq.read_table(io.BytesIO(data))
    tables, lines = [schema.empty_table()], io.BytesIO(data)
    while some := list(itertools.islice(lines, _LINES_AT_A_TIME)):
        rows = [json.loads(line) for line in some if line.strip()]
        if any(list(row) != schema.names for row in rows):
            return pa.table({})
        tables.append(pa.Table.from_pylist(rows, schema=schema))
    return pa.concat_tables(tables)
