"""A table of one's own: CSV, TSV, JSON Lines or Parquet with a text and, or not, instructions and answers.

Which column is which follows from ``TableColumns``; a row's empty cells are filled from ``TableDefaults``.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from mats_ray.config.data import Split, TableColumns, TableDefaults
from mats_ray.data.annotations.cell_values import MISSING
from mats_ray.data.annotations.csv_records import table_records
from mats_ray.data.annotations.json_records import json_lines
from mats_ray.data.annotations.reader import AnnotationFile, Entry, Rejected, Row
from mats_ray.errors import DataError, abbreviated
from mats_ray.storage import open_input, reading_parquet
from mats_ray.tasks import Task
from mats_ray.text import column_name

DELIMITERS = {".csv": ",", ".tsv": "\t"}
EXTENSIONS = (*DELIMITERS, ".jsonl", ".parquet")
COMPRESSED = (".gz", ".bz2", ".zst")
"""Endings that may follow those of texts."""
_ALIASES = {"text": ("text", "caption"), "instruction": ("instruction", "question")}
_BATCH_ROWS = 1024
_SPLITS = get_args(Split)
_TASKS = tuple(str(task) for task in Task)


@dataclass(frozen=True, slots=True)
class TableReader:
    """Reads one file of a table, record by record."""

    columns: TableColumns
    defaults: TableDefaults

    def __call__(self, file: AnnotationFile) -> Iterator[Entry]:
        """Yield the rows of a file.

        Raises:
            DataError: The file has no column for the text, lacks a configured one, or is no file of its kind.
        """
        for record in _records(file, self):
            yield record if isinstance(record, Rejected) else self._row(file, *record)

    def places(self, names: list[str], where: str) -> dict[str, str]:
        """Return the file's own name of each column that is read, by key of ``TableColumns``.

        Raises:
            DataError: A column is missing, or there twice.
        """
        plain = [column_name(name) for name in names]
        places = self.there(names)
        for key, wanted in self._wanted().items():
            if twice := [name for name in wanted if plain.count(column_name(name)) > 1]:
                raise DataError(f"{where} has the column {twice[0]!r} twice")
            if key not in places and (key == "text" or getattr(self.columns, key)):
                raise DataError(
                    f"{where} has no column {' or '.join(map(repr, wanted))}, its columns are "
                    f"{abbreviated(names, most=20)}; columns: {{{key}: NAME}} names the one of the {key}"
                )
        return places

    def _wanted(self) -> dict[str, tuple[str, ...]]:
        return {
            key: (configured,) if configured else _ALIASES.get(key, (key,))
            for key, configured in self.columns
        }

    def there(self, names: Iterable[str]) -> dict[str, str]:
        """Return as ``places`` does, without the columns that are missing."""
        found = {column_name(name): name for name in names}
        there = {
            key: [one for one in map(column_name, wanted) if one in found]
            for key, wanted in self._wanted().items()
        }
        return {key: found[ones[0]] for key, ones in there.items() if ones}

    def _row(self, file: AnnotationFile, number: int, cells: dict[str, Any]) -> Entry:
        texts = {key: _text(cells.get(key)) for key in type(self.columns).model_fields}
        if odd := [key for key, text in texts.items() if text is None]:
            return Rejected(number, f"{odd[0]} is no text")
        instruction, answer, task, license_ = (
            texts[key] or getattr(self.defaults, key) or ""
            for key in ("instruction", "answer", "task", "license")
        )
        task = task or (Task.QA if instruction else Task.CAPTION)
        if task not in _TASKS:
            return Rejected(number, f"task {task[:40]!r} is none of {', '.join(_TASKS)}")
        if texts["split"] and texts["split"] not in _SPLITS:
            return Rejected(number, f"split {texts['split'][:40]!r} is none of {', '.join(_SPLITS)}")
        if task == Task.QA and not instruction:
            return Rejected(number, "no question")
        if task in (Task.QA, Task.CLASSIFICATION) and not answer:
            return Rejected(number, "no answer")
        return Row(
            number,
            f"{file.name}/{number}",
            text=texts["text"] or "",
            question=instruction,
            answer=answer,
            split=texts["split"] or "",
            license=license_,
            task=Task(task),
        )


def is_table(name: str) -> bool:
    """Whether a file's name has an extension that is read."""
    return _extension(name) in EXTENSIONS


def _extension(name: str) -> str:
    name = name.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return name[name.rfind(".") :] if "." in name else ""


def _text(value: Any) -> str | None:
    """Return a cell as text, empty where it has no value; None: it is a list or another object."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")  # what is not UTF-8 is rejected where rows are built
    if not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    return "" if text in MISSING else text


def _records(file: AnnotationFile, reader: TableReader) -> Iterator[tuple[int, dict[str, Any]] | Rejected]:
    """Yield (number, cell by key of ``TableColumns``)."""
    extension = _extension(file.name)
    if extension == ".parquet":
        yield from _parquet_records(file, reader)
    elif extension == ".jsonl":
        yield from _json_records(file, reader)
    elif extension in DELIMITERS:
        yield from _text_records(file, reader, DELIMITERS[extension])
    else:
        raise DataError(f"{file.path} is no table: its name ends in none of {', '.join(EXTENSIONS)}")


def _text_records(
    file: AnnotationFile, reader: TableReader, delimiter: str
) -> Iterator[tuple[int, dict[str, Any]] | Rejected]:
    header = next((line for line in file.lines() if line.strip()), "")
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
    places = reader.places(names, file.path)
    for record in table_records(file, needed=list(places.values()), delimiter=delimiter):
        if isinstance(record, Rejected):
            yield record
        else:
            yield record[0], {key: record[1][name] for key, name in places.items()}


def _json_records(
    file: AnnotationFile, reader: TableReader
) -> Iterator[tuple[int, dict[str, Any]] | Rejected]:
    """Each line has the columns that it names; the first one shows whether the text's is there at all."""
    is_first = True
    for record in json_lines(file):
        if isinstance(record, Rejected):
            yield record
        elif not isinstance(record[1], dict):
            yield Rejected(record[0], "no JSON object")
        else:
            number, cells = record
            places = (
                reader.places(list(cells), f"{file.path} line {number}") if is_first else reader.there(cells)
            )
            is_first = False
            yield number, {key: cells[name] for key, name in places.items()}


def _parquet_records(file: AnnotationFile, reader: TableReader) -> Iterator[tuple[int, dict[str, Any]]]:
    with reading_parquet(file.path), open_input(file.path) as source:
        parquet = pq.ParquetFile(source)
        places = reader.places(parquet.schema_arrow.names, file.path)
        number = 0
        for batch in parquet.iter_batches(_BATCH_ROWS, columns=list(places.values())):
            columns = {key: _cells(batch.column(name)) for key, name in places.items()}
            for row in range(len(batch)):
                number += 1
                yield number, {key: cells[row] for key, cells in columns.items()}


def _cells(column: pa.Array) -> list[Any]:
    """Return the cells; texts as bytes, since Arrow does not check that a file's texts are UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    return column.to_pylist()
