"""A list of audio in a Parquet, CSV or JSONL file: a column ``path``, and ``question`` where rows have one.

Paths in it are absolute, URIs, or relative to the manifest's own folder. A path may have several rows, with a
question each.
"""

import io
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from mats_ray.data.listing import AudioObject, look_at
from mats_ray.data.objects import is_remote, open_storage, persistently, read_bytes
from mats_ray.errors import DataError

EXTENSIONS = (".parquet", ".csv", ".jsonl")
PATH, QUESTION = "path", "question"
LOOKUPS_AT_ONCE = 32


def is_manifest(path: str) -> bool:
    """Whether a path names a manifest, by its extension."""
    return path.lower().endswith(EXTENSIONS)


def read_manifest(path: str) -> tuple[list[AudioObject], dict[str, list[str]]]:
    """Read the files of a manifest, each once, sorted by path, and the questions of those that have some.

    A file that is not there is listed all the same, so that its row can say so.

    Raises:
        DataError: The manifest cannot be read, names no file, or has a row without a path.
    """
    questions = dict[str, list[str]]()
    for number, row in enumerate(_rows(path), start=1):
        named, question = row.get(PATH), row.get(QUESTION)
        if not isinstance(named, str) or not named.strip():
            raise DataError(f"{path}: row {number} names no file in its column {PATH!r}")
        if question is not None and not isinstance(question, str):
            raise DataError(f"{path}: the question of row {number} is no text: {question!r}")
        asked = questions.setdefault(_resolved(named, path), [])
        if question and question.strip():
            asked.append(question)
    if not questions:
        raise DataError(f"{path} names no files")
    with ThreadPoolExecutor(LOOKUPS_AT_ONCE) as pool:
        objects = list(pool.map(look_at, sorted(questions)))
    return objects, {named: asked for named, asked in questions.items() if asked}


def _resolved(named: str, manifest: str) -> str:
    if is_remote(named) or os.path.isabs(named):  # noqa: PTH117
        return named
    folder = manifest.rpartition("/")[0]
    if is_remote(manifest):
        return f"{folder}/{named}"
    return os.path.abspath(os.path.join(folder, named))  # noqa: PTH100, PTH118


def _rows(path: str) -> Iterable[dict[str, Any]]:
    files, key = open_storage(path)
    try:
        data = persistently(lambda: read_bytes(files, key))
        return list(_json_lines(path, data)) if path.lower().endswith(".jsonl") else _table_rows(path, data)
    except FileNotFoundError:
        raise DataError(f"no manifest {path}") from None
    except (OSError, pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise DataError(f"the manifest {path} cannot be read: {error}") from error


def _table_rows(path: str, data: bytes) -> list[dict[str, Any]]:
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
    if PATH not in table.column_names:
        raise DataError(f"{path} has no column {PATH!r}, its columns are {', '.join(table.column_names)}")
    return table.select([name for name in (PATH, QUESTION) if name in table.column_names]).to_pylist()


def _json_lines(path: str, data: bytes) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(data.decode("utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: no JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: no JSON object")
        yield row
