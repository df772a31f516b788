"""Rows of a batch job to parts of its output: of one size, sorted, and whole at every moment.

Shapes: N rows of a table.
"""

# pyarrow.compute makes its functions when it is imported
# pyright: reportAttributeAccessIssue=false

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mats_ray.caption.output import Format, FoundRows, PairKey, PartStore, RowWriter, pair_mask


class PartWriter(RowWriter):
    """Writes rows to parts.

    The part at hand is written again, whole, whenever its rows have waited long enough, until it is full:
    parts of one size without a moment in which rows are there twice or missing. Rows beyond a full part go to
    the next one, and none of those that are written to the full one move there. A part that an earlier run
    left small is taken up. One thread at a time: callers share a lock.

    Args:
        store: The output.
        file_format: Of new parts.
        part_rows: Number of rows of a full part.
    """

    def __init__(self, store: PartStore, *, file_format: Format = "parquet", part_rows: int) -> None:
        super().__init__()
        self._store, self._format, self._part_rows = store, file_format, part_rows
        self._run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
        self._num_parts = 0
        self._stale = dict[str, set[PairKey]]()
        self._open(*self._small_part())

    def add(self, rows: pa.Table, *, replaced: Mapping[str, Iterable[PairKey]] | None = None) -> None:
        """Buffer rows, and write the buffer if it is time to.

        Args:
            rows: Of the store's schema.
            replaced: By part, the pairs whose rows there these rows replace; they are removed once these are
                written.
        """
        for part, pairs in (replaced or {}).items():
            if part == self._name:
                self._rows, self._is_dirty = _without(self._rows, set(pairs)), True
            else:
                self._stale.setdefault(part, set()).update(pairs)
        is_full = False
        while len(rows):
            taken = rows.slice(0, self._part_rows - len(self._rows) - self._num_new)
            self._new.append(taken)
            self._num_new += len(taken)
            rows = rows.slice(len(taken))
            if len(self._rows) + self._num_new == self._part_rows:
                is_full = True
                with self._timer:
                    self._write()
                    self._open(*self._new_part())
        if is_full or self._timer.is_due():
            self.flush()

    def flush(self) -> None:
        """Write the buffered rows, then remove those that they replace."""
        with self._timer:
            if self._num_new or self._is_dirty:
                self._write()
            for name, pairs in self._stale.items():
                self._replace(name, _without(self._store.read(name), pairs))
            self._stale.clear()

    def _write(self) -> None:
        table = self._table()
        self._replace(self._name, table)
        self._open(self._name, table)

    def find(self, paths: pa.Array, columns: Sequence[str]) -> Iterator[FoundRows]:
        """Yield the rows of some files: ``PartStore.find``, with those that are not written yet."""
        yield from self._store.find(paths, columns, without=self._name)
        table = self._table().select(columns)
        keep_N = pc.is_in(table["path"], value_set=paths).to_numpy()
        if keep_N.any():
            yield FoundRows(
                part=self._name, row_N=np.flatnonzero(keep_N), table=table.filter(pa.array(keep_N))
            )

    def remove_rows(self, name: str, row_N: np.ndarray) -> None:
        """Remove some rows of a part; one without any rows is removed."""

        def kept(table: pa.Table) -> pa.Table:
            return table.take(pa.array(np.delete(np.arange(len(table)), row_N)))

        self._update(name, kept)

    def set_rows(self, name: str, row_N: np.ndarray, rows: pa.Table) -> None:
        """Replace columns of some rows of a part."""

        def replaced(table: pa.Table) -> pa.Table:
            place_N = np.arange(len(table))
            place_N[row_N] = len(table) + np.arange(len(rows))
            for column in rows.column_names:
                values = pa.chunked_array([*table[column].chunks, *rows[column].chunks]).take(
                    pa.array(place_N)
                )
                table = table.set_column(
                    table.schema.get_field_index(column), table.schema.field(column), values
                )
            return table

        self._update(name, replaced)

    def _update(self, name: str, change: Callable[[pa.Table], pa.Table]) -> None:
        if name == self._name:
            self._open(name, change(self._table()), is_dirty=True)
        else:
            self._replace(name, change(self._store.read(name)))

    def _replace(self, name: str, table: pa.Table) -> None:
        if len(table):
            self._store.write(name, table)
        else:
            self._store.remove(name)

    def _table(self) -> pa.Table:
        """Return the rows of the part at hand, sorted."""
        table = pa.concat_tables([self._rows, *self._new])
        if self._new:
            table = table.take(pc.sort_indices(table["path"]))
            self._rows, self._new, self._num_new = table, [], 0
            self._is_dirty = True
        return table

    def _open(self, name: str, rows: pa.Table, *, is_dirty: bool = False) -> None:
        self._name, self._rows, self._is_dirty = name, rows, is_dirty
        self._new, self._num_new = list[pa.Table](), 0

    def _new_part(self) -> tuple[str, pa.Table]:
        name = f"part-{self._run}-{self._num_parts:05d}.{self._format}"
        self._num_parts += 1
        return name, self._store.schema.empty_table()

    def _small_part(self) -> tuple[str, pa.Table]:
        """Return the smallest part, unless it is full or of another format, else a new one."""
        parts = [(num_rows, name) for name, num_rows in self._store.num_rows().items()]
        small = [one for one in parts if one[0] < self._part_rows and one[1].endswith(self._format)]
        if not small:
            return self._new_part()
        _, name = min(small)
        return name, self._store.read(name)


def _without(table: pa.Table, pairs: Set[PairKey]) -> pa.Table:
    return table.filter(pa.array(~pair_mask(table, pairs)))
