"""Rows of a Parquet, CSV or JSONL file, as its user wrote it: every cell of a CSV is a text.

Of a JSON Lines file every row may have columns of its own.
"""

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from mats_ray.errors import DataError, MissingError, StorageError, abbreviated
from mats_ray.storage import open_input

EXTENSIONS = (".parquet", ".csv", ".jsonl")
_ROWS_AT_A_TIME = 8_192
_CSV_BYTES = 8 * 2**20
"""Longest row of a CSV, and the size of the ranges in which it is read."""
_LINES_BYTES = 8 * 2**20


class Columns(Protocol):
    """Names of columns as they are looked up."""

    def __call__(self, names: Sequence[str], where: str, *, whole: bool) -> list[str]:
        """Return one name per column.

        Args:
            names: As written.
            where: The file, and the line of a row that has columns of its own.
            whole: They are the columns of the whole file.

        Raises:
            DataError: They cannot be used.
        """
        ...


def read_rows(path: str, *, what: str, columns: Columns) -> Iterator[dict[str, Any]]:
    """Read a file row by row, a few megabytes of it at a time.

    Args:
        path: Local path or URI; its extension is one of ``EXTENSIONS``.
        what: What the file is, for errors.
        columns: Gives the names in the rows.

    Raises:
        DataError: It is not there or cannot be read, or its columns cannot be used.
    """
    read = _json_lines if path.lower().endswith(".jsonl") else _table_rows
    try:
        with open_input(path) as file:
            yield from read(path, file, columns)
    except MissingError:
        raise DataError(f"no {what} {path}") from None
    except StorageError:
        raise
    except (OSError, pa.ArrowInvalid, UnicodeDecodeError) as error:
        reason = abbreviated([error], width=300)  # it quotes a row of a CSV, which may have several lines
        raise DataError(f"the {what} {path} cannot be read: {reason}") from error


def _table_rows(path: str, file: pa.NativeFile, columns: Columns) -> Iterator[dict[str, Any]]:
    schema, batches = _csv(file) if path.lower().endswith(".csv") else _parquet(file)
    names, first = columns(schema.names, path, whole=True), 1
    for batch in batches:
        yield from _to_rows(batch.rename_columns(names), path, first)
        first += len(batch)


def _to_rows(batch: pa.RecordBatch, path: str, first: int) -> list[dict[str, Any]]:
    try:
        return batch.to_pylist()
    except OverflowError as error:  # a date beyond the year 9999, which Python has no value for
        for name, cells in zip(batch.schema.names, batch.columns, strict=True):
            for row, cell in enumerate(cells, start=first):
                try:
                    cell.as_py()
                except OverflowError:
                    column = abbreviated([repr(name)])
                    raise DataError(f"{path}: row {row}, column {column}: {error}") from error
        raise


def _parquet(file: pa.NativeFile) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    parts = pq.ParquetFile(file)
    return parts.schema_arrow, parts.iter_batches(_ROWS_AT_A_TIME)


def _csv(file: pa.NativeFile) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    read, parse = csv.ReadOptions(block_size=_CSV_BYTES), csv.ParseOptions(newlines_in_values=True)
    names = csv.open_csv(file, read_options=read, parse_options=parse).schema.names
    # all columns stay text: a question may be a number, and "NA" a name
    texts = csv.ConvertOptions(column_types={name: pa.string() for name in names}, strings_can_be_null=False)
    file.seek(0)
    reader = csv.open_csv(file, read_options=read, parse_options=parse, convert_options=texts)
    return reader.schema, iter(reader)


def _json_lines(path: str, file: pa.NativeFile, columns: Columns) -> Iterator[dict[str, Any]]:
    lines = io.TextIOWrapper(io.BufferedReader(file, _LINES_BYTES), encoding="utf-8-sig", newline="\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_Object)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: no JSON: {error}") from error
        if not isinstance(row, _Object):
            raise DataError(f"{path}, line {number}: no JSON object")
        names = columns(row.names, f"{path}, line {number}", whole=False)
        yield {name: row[given] for name, given in zip(names, row.names, strict=True)}


class _Object(dict[str, Any]):
    """A JSON object with all names that are written in it: of two fields of one name it holds the last."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.names = [name for name, _ in pairs]
