"""A list of audio in a Parquet, CSV or JSONL file: a column ``path``, and ``question`` where rows have one.

Paths in it are absolute, URIs, or relative to the manifest's own folder. A path may have several rows, with a
question each. Column names are read without their case and the spaces around them. Other columns are kept as
they are, for the rows of a batch job's output.
"""

import difflib
import io
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from mats_ray.data.audio_files import AudioObject, stat_audio
from mats_ray.errors import DataError, abbreviated
from mats_ray.storage import is_remote, locate, read_bytes
from mats_ray.text import column_name, is_valid_unicode

EXTENSIONS = (".parquet", ".csv", ".jsonl")
PATH, QUESTION = "path", "question"
NUM_LOOKUP_THREADS = 32
_ROWS_AT_A_TIME = 8_192


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One row of a manifest."""

    path: str
    """As the manifest has it."""
    question: str
    """Empty where there is none."""
    columns: str | None
    """The other columns as a JSON object; None: there are none."""


def is_manifest(path: str) -> bool:
    """Whether a path names a manifest, by its extension."""
    return path.lower().endswith(EXTENSIONS)


def read_manifest(path: str) -> tuple[list[AudioObject], dict[str, list[ManifestRow]]]:
    """Read the files of a manifest, each once, sorted by path, and by path its rows, in their order.

    A file that is not there is listed all the same, so that its row can say so.

    Raises:
        DataError: The manifest cannot be read, names no file, or has a row without a path or with text that
            is not valid Unicode.
    """
    rows = dict[str, list[ManifestRow]]()
    for number, row in enumerate(_rows(path), start=1):
        listed, question = row.get(PATH), row.get(QUESTION)
        if not isinstance(listed, str) or not listed.strip():
            raise DataError(f"{path}: row {number} names no file in its column {PATH!r}")
        if question is not None and not isinstance(question, str):
            raise DataError(f"{path}: the question of row {number} is no text: {question!r}")
        for what, text in ((PATH, listed), (QUESTION, question or "")):
            _check_text(text, f"{path}: the {what} of row {number}")
        columns = _json({name: cell for name, cell in row.items() if name not in (PATH, QUESTION)})
        _check_text(columns or "", f"{path}: another column of row {number}")
        question = question if question and question.strip() else ""
        rows.setdefault(_resolved(listed, path), []).append(ManifestRow(listed, question, columns))
    if not rows:
        raise DataError(f"{path} names no files")
    with ThreadPoolExecutor(NUM_LOOKUP_THREADS) as pool:
        objects = list(pool.map(stat_audio, sorted(rows)))
    return objects, rows


def _json(columns: dict[str, Any]) -> str | None:
    """Write other columns as JSON; what JSON has no type for (times, decimals) becomes text, NaN null."""
    plain = {name: None if cell != cell else cell for name, cell in columns.items()}  # noqa: PLR0124
    return json.dumps(plain, ensure_ascii=False, default=str) if plain else None


def _check_text(text: str, what: str) -> None:
    if not is_valid_unicode(text) or "\0" in text:
        fault = "NUL" if "\0" in text else "half a surrogate pair"
        raise DataError(f"{what} holds {fault}, which no file name or question can: {text[:80]!a}")


def _resolved(named: str, manifest: str) -> str:
    if is_remote(named):
        return named
    if "://" in named or os.path.isabs(named):  # noqa: PTH117
        return locate(named)[1]
    if is_remote(manifest):
        return f"{manifest.rpartition('/')[0]}/{named}"
    folder = os.path.dirname(locate(manifest)[1])  # noqa: PTH120
    return locate(os.path.join(folder, named))[1]  # noqa: PTH118


def _rows(path: str) -> Iterator[dict[str, Any]]:
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        raise DataError(f"no manifest {path}") from None
    try:
        yield from _json_lines(path, data) if path.lower().endswith(".jsonl") else _table_rows(path, data)
    except (OSError, pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise DataError(f"the manifest {path} cannot be read: {error}") from error


def _table_rows(path: str, data: bytes) -> Iterator[dict[str, Any]]:
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
    columns = _columns(table.column_names, path)
    if PATH not in columns:
        names = abbreviated(table.column_names, most=20)
        raise DataError(f"{path} has no column {PATH!r}, its columns are {names}")
    for batch in table.rename_columns(columns).to_batches(_ROWS_AT_A_TIME):
        yield from batch.to_pylist()


def _columns(names: Sequence[str], where: str) -> list[str]:
    """Return the names of the columns: those that are read without case and spaces, the others as they are.

    Raises:
        DataError: One is there twice, or a name is so close to ``question`` that it is meant.
    """
    columns = list[str]()
    for given in names:
        plain = column_name(given)
        is_read = plain in (PATH, QUESTION)
        name = plain if is_read else given
        if name in columns:
            raise DataError(
                f"{where} has the column {name!r} twice: {abbreviated(map(repr, names), most=20)}"
            )
        if not is_read and difflib.get_close_matches(plain, [QUESTION], cutoff=0.85):
            raise DataError(
                f"{where}: the column {abbreviated([repr(given)])} is not read, is {QUESTION!r} meant?"
            )
        columns.append(name)
    return columns


def _json_lines(path: str, data: bytes) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(data.decode("utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            pairs = json.loads(line, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: no JSON: {error}") from error
        if not isinstance(pairs, _Pairs):
            raise DataError(f"{path}, line {number}: no JSON object")
        columns = _columns([name for name, _ in pairs], f"{path}, line {number}")
        yield {name: cell for name, (_, cell) in zip(columns, pairs, strict=True)}


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it is written: a dictionary would keep the last of two fields of one name."""
