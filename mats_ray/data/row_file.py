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

from mats_ray.errors import DataError, MissingError, StorageError
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
    except (
        OSError,
        pa.ArrowInvalid,
        UnicodeDecodeError,
        OverflowError,
    ) as error:  # the last of a date beyond 9999
        reason = " ".join(str(error).split())  # a row of a CSV may have several lines
        raise DataError(f"the {what} {path} cannot be read: {reason}") from error


def _table_rows(path: str, file: pa.NativeFile, columns: Columns) -> Iterator[dict[str, Any]]:
    schema, batches = _csv(file) if path.lower().endswith(".csv") else _parquet(file)
    names = columns(schema.names, path, whole=True)
    for batch in batches:
        yield from batch.rename_columns(names).to_pylist()


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
            pairs = json.loads(line, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: no JSON: {error}") from error
        if not isinstance(pairs, _Pairs):
            raise DataError(f"{path}, line {number}: no JSON object")
        names = columns([name for name, _ in pairs], f"{path}, line {number}", whole=False)
        yield {name: _plain(cell) for name, (_, cell) in zip(names, pairs, strict=True)}


def _plain(cell: Any) -> Any:
    """Return a cell with its nested objects as dictionaries."""
    if isinstance(cell, _Pairs):
        return {name: _plain(value) for name, value in cell}
    return [_plain(value) for value in cell] if isinstance(cell, list) else cell


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it is written: a dictionary would keep the last of two fields of one name."""
