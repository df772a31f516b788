"""A list of audio in a Parquet, CSV or JSONL file: a column ``path``, and ``question`` where rows have one.

Paths in it are absolute, URIs, or relative to the manifest's own folder. A path may have several rows, with a
question each. Column names are read without their case and the spaces around them. Other columns are kept as
they are, for the rows of a batch job's output.
"""

import difflib
import hashlib
import itertools
import json
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mats_ray.data.audio_files import stat_audio
from mats_ray.data.audio_listing import FIRST_BLOCK, MAX_BLOCK, to_block
from mats_ray.data.row_file import EXTENSIONS, read_rows
from mats_ray.errors import DataError, abbreviated
from mats_ray.storage import is_remote, locate
from mats_ray.text import column_name, is_valid_unicode

PATH, QUESTION = "path", "question"
NUM_LOOKUP_THREADS = 32


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


@dataclass(frozen=True, kw_only=True)
class ManifestBlock:
    """Consecutive rows of a manifest."""

    files: pa.Table
    """Its files, each once: ``s3_pages.SCHEMA``; one that is not there has no etag, so that its row can say
    so."""
    rows: Mapping[str, Sequence[ManifestRow]]
    """Rows by path, in their order."""
    repeated: Set[str]
    """Paths that an earlier block had, too."""


def read_manifest(path: str) -> Iterator[ManifestBlock]:
    """Read a manifest block by block; a row whose path and question were there before is left out.

    Rows seen before are looked up on disk, so that a manifest may have any length.

    Raises:
        DataError: The manifest cannot be read, names no file, or has a row without a path or with text that
            is not valid Unicode.
    """
    rows, size, is_empty = _rows(path), FIRST_BLOCK, True
    with _SeenRows() as seen, ThreadPoolExecutor(NUM_LOOKUP_THREADS) as pool:
        while some := list(itertools.islice(rows, size)):
            is_empty, size = False, min(2 * size, MAX_BLOCK)
            by_path = dict[str, list[ManifestRow]]()
            for (resolved, row), is_new in zip(
                some, seen.add((one, row.question.strip()) for one, row in some), strict=True
            ):
                if is_new:
                    by_path.setdefault(resolved, []).append(row)
            paths = sorted(by_path)
            repeated = {
                one
                for one, is_new in zip(paths, seen.add((one,) for one in paths), strict=True)
                if not is_new
            }
            if paths:
                yield ManifestBlock(
                    files=to_block(pool.map(stat_audio, paths)), rows=by_path, repeated=repeated
                )
    if is_empty:
        raise DataError(f"{path} names no files")


def _rows(path: str) -> Iterator[tuple[str, ManifestRow]]:
    """Yield each row with its path as it is opened."""
    for number, row in enumerate(read_rows(path, what="manifest", columns=_columns), start=1):
        listed, question = row.get(PATH), row.get(QUESTION)
        if isinstance(listed, list):
            raise DataError(
                f"{path}: row {number} has a list of {len(listed)} in its column {PATH!r}: a row is about "
                "one clip; give each clip a row"
            )
        if not isinstance(listed, str) or not listed.strip():
            raise DataError(f"{path}: row {number} names no file in its column {PATH!r}")
        if question is not None and not isinstance(question, str):
            given = abbreviated([repr(question)])
            raise DataError(f"{path}: the question of row {number} is no text: {given}")
        for what, text in ((PATH, listed), (QUESTION, question or "")):
            _check_text(text, f"{path}: the {what} of row {number}")
        try:
            columns = _json({name: cell for name, cell in row.items() if name not in (PATH, QUESTION)})
        except RecursionError:
            raise DataError(f"{path}: another column of row {number} is nested too deeply") from None
        _check_text(columns or "", f"{path}: another column of row {number}")
        question = question if question and question.strip() else ""
        yield _resolved(listed, path), ManifestRow(listed, question, columns)


class _SeenRows:
    """Which keys were added before; on disk, removed at the end."""

    def __enter__(self) -> "_SeenRows":
        self._database = sqlite3.connect("", check_same_thread=False)  # a temporary file of SQLite's own
        self._database.execute("CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID")
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, keys: Iterable[tuple[str, ...]]) -> list[bool]:
        """Add keys; returns which of them are new."""
        insert, run = "INSERT OR IGNORE INTO seen VALUES (?)", self._database.execute
        return [run(insert, (_digest(key),)).rowcount == 1 for key in keys]


def _digest(key: tuple[str, ...]) -> bytes:
    return hashlib.blake2b("\0".join(key).encode(), digest_size=16, salt=bytes([len(key)])).digest()


def _json(columns: dict[str, Any]) -> str | None:
    """Write other columns as JSON; what has no type there (times, decimals) is text, NaN or infinity null."""
    if not columns:
        return None
    try:
        return json.dumps(columns, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(columns), ensure_ascii=False, default=str, allow_nan=False)


def _finite(cell: Any) -> Any:
    if isinstance(cell, dict):
        return {name: _finite(value) for name, value in cell.items()}
    if isinstance(cell, (list, tuple)):  # a map of Parquet is a list of tuples
        return [_finite(value) for value in cell]
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


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


def _columns(names: Sequence[str], where: str, *, whole: bool) -> list[str]:
    """Return the names of the columns: those that are read without case and spaces, the others as they are.

    Args:
        names: As written.
        where: The file, and the line of a row that has columns of its own.
        whole: They are the columns of the whole file: ``path`` must be one.

    Raises:
        DataError: One is there twice or missing, or a name is so close to ``question`` that it is meant.
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
    if whole and PATH not in columns:
        raise DataError(f"{where} has no column {PATH!r}, its columns are {abbreviated(names, most=20)}")
    return columns
