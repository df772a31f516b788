"""Converting one annotation file: triplets to Parquet part files, unusable records to a JSON Lines file.

No more than one part file's rows are in memory.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mats_ray.config.data import PrepareConfig
from mats_ray.data.annotations.reader import AnnotationFile, Dropped, Entry, Rejected
from mats_ray.data.prepare.input_files import InputFile
from mats_ray.data.prepare.prepare_report import Counts
from mats_ray.data.prepare.triplet_builder import TripletBuilder, TripletRow, read_descriptions
from mats_ray.data.triplets import COLUMNS, SCHEMA
from mats_ray.storage import open_output

RECORDS_PER_REPORT = 50_000
"""Number of records after which progress is reported although no part file is full."""


@dataclass(frozen=True, slots=True)
class ConversionProgress:
    """Records read since the last report."""

    source: str
    counts: Counts
    file: str | None
    """Finished part file, if any."""
    example: dict[str, str] | None


def convert_file(
    input_file: InputFile, settings: PrepareConfig, *, seed: int, out: str | None = None
) -> Iterator[ConversionProgress]:
    """Convert one file; the same file, settings and seed give the same part files.

    Args:
        input_file: File and how to read it.
        settings: Section ``data.prepare``.
        seed: Seed of the run.
        out: Folder of the part files and rejected records; None: nothing is written.

    Raises:
        DataError: The file is not what its source publishes, or a companion is missing.
    """
    builder = TripletBuilder(
        source=input_file.source,
        split=input_file.split,
        splits=input_file.splits,
        copies=input_file.copies,
        seed=seed,
        license_allow=frozenset(settings.license_allow),
        descriptions=read_descriptions(settings.descriptions),
    )
    with _PartFiles(input_file, out, settings.rows_per_file) as output:
        file = input_file.open()
        for entry in builder.source.read(file):
            output.add(input_file, entry, builder)
            if output.is_due:
                yield output.finish(file)
        yield output.finish(file)


def check_input_files(inputs: Sequence[InputFile], settings: PrepareConfig) -> None:
    """Read every file up to its first record: header, format and companions are checked before Ray starts.

    Raises:
        DataError: A file is not what its source publishes, or a companion is missing.
    """
    read_descriptions(settings.descriptions)
    for input_file in inputs:
        input_file.check_start()


class _PartFiles:
    """Writes the part files and rejected records of one input file; counts since the last report."""

    def __init__(self, input_file: InputFile, out: str | None, rows_per_file: int) -> None:
        self._input_file, self._out, self._rows_per_file = input_file, out, rows_per_file
        self._rows: list[TripletRow] = []
        self._counts, self._number, self._bytes_reported = Counts(), 0, 0
        self._stack, self._rejects = ExitStack(), None

    def __enter__(self) -> "_PartFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def is_due(self) -> bool:
        """Whether a part file is full, or it is time to report."""
        return len(self._rows) >= self._rows_per_file or self._counts.records >= RECORDS_PER_REPORT

    def add(self, input_file: InputFile, entry: Entry, builder: TripletBuilder) -> None:
        """Add one record."""
        result = entry if isinstance(entry, Dropped | Rejected) else builder(entry)
        if isinstance(result, Dropped):
            self._counts.dropped[result.reason] += 1
        elif isinstance(result, Rejected):
            self._reject(input_file, result)
        else:
            self._rows += result
            self._counts.by_split[result[0][6]] += 1

    def finish(self, file: AnnotationFile) -> ConversionProgress:
        """Write the rows since the last report as a part file, and return the report."""
        rows, counts = self._rows, self._counts
        counts.written, counts.num_bytes = len(rows), max(0, file.bytes_read - self._bytes_reported)
        self._bytes_reported += counts.num_bytes
        self._rows, self._counts = [], Counts()
        example: dict[str, str] | None = None
        if rows and self._number == 0:
            example = {name: cell for name, cell in zip(COLUMNS, rows[0], strict=True)}  # noqa: C416
        name = None
        if rows:
            name = f"{self._input_file.stem}-{self._number:05d}.parquet"
            self._number += 1
            if self._out is not None:
                write_part(rows, self._out, name)
        return ConversionProgress(self._input_file.source.name, counts, name, example)

    def _reject(self, input_file: InputFile, entry: Rejected) -> None:
        self._counts.rejected += 1
        where = f"{input_file.path} row {entry.number}: {entry.reason}"
        self._counts.first_rejected = self._counts.first_rejected or where
        if self._out is not None:
            line = {"file": input_file.path, "row": entry.number, "reason": entry.reason}
            self._sink(self._out).write(json.dumps(line).encode() + b"\n")

    def _sink(self, out: str) -> Any:
        if self._rejects is None:
            rejects = open_output(f"{out.rstrip('/')}/rejected/{self._input_file.stem}.jsonl")
            self._rejects = self._stack.enter_context(rejects)
        return self._rejects


def write_part(rows: list[TripletRow], out: str, name: str) -> None:
    """Write a part file of triplets; a killed writer leaves no half file behind."""
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    table = pa.Table.from_arrays(columns, schema=SCHEMA)
    with open_output(f"{out.rstrip('/')}/{name}") as sink:
        pq.write_table(table, sink, compression="zstd")
