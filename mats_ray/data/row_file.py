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

from mats_ray.errors import DataError
from mats_ray.storage import read_bytes

EXTENSIONS = (".parquet", ".csv", ".jsonl")
_ROWS_AT_A_TIME = 8_192


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
    """Read a file row by row.

    Args:
        path: Local path or URI; its extension is one of ``EXTENSIONS``.
        what: What the file is, for errors.
        columns: Gives the names in the rows.

    Raises:
        DataError: It is not there or cannot be read, or its columns cannot be used.
    """
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        raise DataError(f"no {what} {path}") from None
    is_lines = path.lower().endswith(".jsonl")
    try:
        yield from _json_lines(path, data, columns) if is_lines else _table_rows(path, data, columns)
    except (OSError, pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise DataError(f"the {what} {path} cannot be read: {error}") from error


def _table_rows(path: str, data: bytes, columns: Columns) -> Iterator[dict[str, Any]]:
    if path.lower().endswith(".csv"):
        # all columns stay text: a question may be a number, and "NA" a name
        names = csv.open_csv(io.BytesIO(data)).schema.names
        texts = csv.ConvertOptions(
            column_types={name: pa.string() for name in names}, strings_can_be_null=False
        )
        parse = csv.ParseOptions(newlines_in_values=True)
        table = csv.read_csv(io.BytesIO(data), convert_options=texts, parse_options=parse)
    else:
        table = pq.read_table(io.BytesIO(data))
    renamed = table.rename_columns(columns(table.column_names, path, whole=True))
    for batch in renamed.to_batches(_ROWS_AT_A_TIME):
        yield from batch.to_pylist()


def _json_lines(path: str, data: bytes, columns: Columns) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(data.decode("utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            pairs = json.loads(line, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: no JSON: {error}") from error
        if not isinstance(pairs, _Pairs):
            raise DataError(f"{path}, line {number}: no JSON object")
        names = columns([name for name, _ in pairs], f"{path}, line {number}", whole=False)
        yield {name: cell for name, (_, cell) in zip(names, pairs, strict=True)}


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it is written: a dictionary would keep the last of two fields of one name."""
