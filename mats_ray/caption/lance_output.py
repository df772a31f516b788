"""The output of a batch job as a Lance table: every write is one commit, which is there whole or not at all.

The extra ``lance``. Ray Data's own writer commits once, when a job ends; here the driver commits the rows
that wait every few seconds, as ``output`` writes parts, so that a killed job keeps what it has. Lance needs
no catalogue: a table is a folder or a prefix. Iceberg's commits are as good, but need one, and its deletes by
row need its writer. Row ids are addresses of rows, valid until fragments are joined, which only ``close``
does.
"""

# pyarrow.compute makes its functions when it is imported
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mats_ray.caption.output import FoundRows, OutputFolder, PairKey, PartStore, RowWriter, pair_mask
from mats_ray.caption.rows import SCHEMA
from mats_ray.errors import ConfigError, DataError
from mats_ray.storage import exists, is_remote, is_s3, locate, make_folder, s3_options

TABLE = "rows.lance"
"""Name of the table in the output folder, beside the summary."""
_IDS_PER_COMMIT = 10_000

Result = TypeVar("Result")


def open_output(out: str, file_format: str, *, create: bool) -> "PartStore | LanceStore":
    """Open the output in its format.

    Raises:
        ConfigError: The folder holds an output of the other kind.
    """
    is_table = exists(f"{out.rstrip('/')}/{TABLE}")
    if file_format != "lance":
        if is_table:
            raise ConfigError(f"{out} holds a Lance table, not {file_format}; set caption.format=lance")
        return PartStore(out, create=create)
    if not is_table and PartStore(out, create=False).names():
        raise ConfigError(f"{out} holds Parquet or JSONL files; give another folder for caption.format=lance")
    return LanceStore(out, create=create)


class LanceStore(OutputFolder):
    """The table of one output folder, local or in S3.

    Args:
        out: The folder.
        create: Create it if it is absent.

    Raises:
        ConfigError: The extra is not installed.
        DataError: The table cannot be opened, or holds other rows.
    """

    def __init__(self, out: str, *, create: bool = True) -> None:
        super().__init__(out)
        try:
            import lance
        except ImportError:
            raise ConfigError("caption.format=lance needs the extra: pip install 'mats-ray[lance]'") from None
        self._lance: Any = lance
        self._uri = self._path(TABLE) if is_remote(out) else f"{locate(out)[1]}/{TABLE}"
        self._options = s3_options() if is_s3(out) else {}
        if create:
            make_folder(out)
        self.table: Any = self._open()
        if self.table is None and create:
            self.append(SCHEMA.empty_table())

    def find(self, paths: pa.Array, columns: Sequence[str]) -> Iterator[FoundRows]:
        """Yield the rows of some files; their places are row ids.

        Args:
            paths: Of the files.
            columns: To be read, ``path`` among them.

        Raises:
            DataError: The table cannot be read.
        """
        if self.table is None or not len(paths):
            return
        bounds = pc.min_max(paths).as_py()
        where = f"path >= {_literal(bounds['min'])} AND path <= {_literal(bounds['max'])}"
        scanner = self.table.scanner(columns=list(columns), filter=where, with_row_id=True)
        batches = scanner.to_batches()
        while (batch := self._run("read", lambda: next(batches, None))) is not None:
            found = batch.filter(pc.is_in(batch["path"], value_set=paths))
            if len(found):
                schema = pa.schema([SCHEMA.field(one) for one in columns])
                table = pa.Table.from_batches([found]).select(columns).cast(schema)
                yield FoundRows(part=TABLE, row_N=found["_rowid"].to_numpy(), table=table)

    def append(self, rows: pa.Table) -> None:
        """Add rows in one commit.

        Raises:
            DataError: The storage refuses.
        """
        mode = "create" if self.table is None else "append"
        self.table = self._run(
            "written",
            lambda: self._lance.write_dataset(rows, self._uri, mode=mode, storage_options=self._options),
        )

    def remove_rows(self, row_N: np.ndarray) -> None:
        """Remove rows by their ids, some thousands in a commit."""
        for start in range(0, len(row_N), _IDS_PER_COMMIT):
            ids = ", ".join(map(str, row_N[start : start + _IDS_PER_COMMIT].tolist()))
            self._run("written", lambda ids=ids: self.table.delete(f"_rowid IN ({ids})"))

    def rows(self, row_N: np.ndarray) -> pa.Table:
        """Return rows by their ids, in this order."""
        ids = ", ".join(map(str, row_N.tolist()))
        table = self._run(
            "read", lambda: self.table.scanner(filter=f"_rowid IN ({ids})", with_row_id=True).to_table()
        )
        order = pc.index_in(pa.array(row_N, pa.uint64()), value_set=table["_rowid"].combine_chunks())
        return table.select(SCHEMA.names).take(order).cast(SCHEMA)

    def tidy(self) -> None:
        """Join small fragments, and drop versions that nobody needs; row ids change."""
        self._run("written", self.table.optimize.compact_files)
        self._run("written", self.table.cleanup_old_versions)

    def _open(self) -> Any:
        try:
            table = self._lance.dataset(self._uri, storage_options=self._options)
        except (ValueError, OSError) as error:
            if "not found" in str(error).lower():
                return None
            raise DataError(f"{self._uri} cannot be read: {_first_line(error)}") from error
        if table.schema.names != SCHEMA.names:
            raise DataError(f"{self._uri} holds other rows than this job's; give it a folder of its own")
        return table

    def _run(self, what: str, action: Callable[[], Result]) -> Result:
        try:
            return action()
        except (ValueError, OSError) as error:
            raise DataError(f"{self._uri} cannot be {what}: {_first_line(error)}") from error


class LanceWriter(RowWriter):
    """Commits rows to a table; ``PartWriter`` for Lance.

    Args:
        store: The output.
    """

    def __init__(self, store: LanceStore) -> None:
        super().__init__()
        self._store = store
        self._new, self._stale = list[pa.Table](), set[PairKey]()

    def add(self, rows: pa.Table, *, replaced: Mapping[str, Iterable[PairKey]] | None = None) -> None:
        """Buffer rows, and commit the buffer if it is time to: ``PartWriter.add``."""
        for pairs in (replaced or {}).values():
            self._stale.update(pairs)
        if len(rows):
            self._new.append(rows)
        if self._timer.is_due():
            self.flush()

    def flush(self) -> None:
        """Commit the buffered rows, then remove those that they replace."""
        if not self._new:
            return
        with self._timer:
            stale = self._stale_rows()
            self._store.append(pa.concat_tables(self._new))
            self._new.clear()
            self._store.remove_rows(stale)
            self._stale.clear()

    def close(self) -> None:
        """Commit the rows that wait, and join what many commits have left in small files."""
        super().close()
        with self._timer:
            self._store.tidy()

    def find(self, paths: pa.Array, columns: Sequence[str]) -> Iterator[FoundRows]:
        """Yield the rows of some files, those that wait included: they are committed first."""
        self.flush()
        yield from self._store.find(paths, columns)

    def remove_rows(self, part: str, row_N: np.ndarray) -> None:
        """Remove rows by their ids."""
        assert part == TABLE
        self._store.remove_rows(row_N)

    def set_rows(self, part: str, row_N: np.ndarray, rows: pa.Table) -> None:
        """Replace columns of some rows: the rows are added anew, then the old ones removed."""
        assert part == TABLE
        found = self._store.rows(row_N)
        for column in rows.column_names:
            found = found.set_column(SCHEMA.get_field_index(column), SCHEMA.field(column), rows[column])
        self._store.append(found)
        self._store.remove_rows(row_N)

    def _stale_rows(self) -> np.ndarray:
        """Return the ids of the rows that are to be replaced."""
        paths = pa.array({path for path, _, _ in self._stale}, pa.string())
        found = self._store.find(paths, ["path", "task", "prompt"])
        ids = [one.row_N[pair_mask(one.table, self._stale)] for one in found]
        return np.concatenate([np.empty(0, np.uint64), *ids])


def _literal(text: str) -> str:
    """Write a text for a filter."""
    quoted = text.replace("'", "''")
    return f"'{quoted}'"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
