"""Reading one file to the end: triplets to Parquet parts, unusable records to a JSON Lines file.

At no time are more than one part's rows in memory.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mats_ray.config.data import PrepareConfig
from mats_ray.data.prepare.plan import Unit
from mats_ray.data.prepare.report import Counts
from mats_ray.data.prepare.triplets import Made, TripletMaker, read_descriptions
from mats_ray.data.sources.registry import SOURCES
from mats_ray.data.sources.rows import AnnotationFile, Dropped, Entry, Rejected
from mats_ray.data.triplets import COLUMNS, SCHEMA
from mats_ray.storage import open_output

MESSAGE_RECORDS = 50_000
"""Records after which progress is told although no part is full."""


@dataclass(frozen=True, slots=True)
class Progressed:
    """What was read since the last time."""

    source: str
    counts: Counts
    file: str | None
    """Parquet file finished, if any."""
    example: dict[str, str] | None


def read_unit(
    unit: Unit, settings: PrepareConfig, *, seed: int, out: str | None = None
) -> Iterator[Progressed]:
    """Read one file; the same file, settings and seed give the same parts.

    Args:
        unit: File and how to read it.
        settings: Section ``data.prepare``.
        seed: Seed of the run.
        out: Folder of the parts and rejected records; None: nothing is written.

    Raises:
        DataError: The file is not what its source publishes, or a companion is missing.
    """
    maker = TripletMaker(
        source=SOURCES[unit.source],
        split=unit.split,
        splits=unit.splits,
        copies=unit.copies,
        seed=seed,
        license_allow=frozenset(settings.license_allow),
        descriptions=read_descriptions(settings.descriptions),
    )
    with _Parts(unit, out, settings.rows_per_file) as parts:
        file = unit.open()
        for entry in maker.source.read(file):
            parts.add(unit, entry, maker)
            if parts.is_due:
                yield parts.finish(file)
        yield parts.finish(file)


class _Parts:
    """What one file has given since the last message."""

    def __init__(self, unit: Unit, out: str | None, rows_per_file: int) -> None:
        self._unit, self._out, self._rows_per_file = unit, out, rows_per_file
        self._rows: list[Made] = []
        self._counts, self._number, self._bytes_told = Counts(), 0, 0
        self._stack, self._rejects = ExitStack(), None

    def __enter__(self) -> "_Parts":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def is_due(self) -> bool:
        """Whether a part is full, or it is time to say something."""
        return len(self._rows) >= self._rows_per_file or self._counts.records >= MESSAGE_RECORDS

    def add(self, unit: Unit, entry: Entry, maker: TripletMaker) -> None:
        """Take in one record."""
        made = entry if isinstance(entry, Dropped | Rejected) else maker(entry)
        if isinstance(made, Dropped):
            self._counts.dropped[made.reason] += 1
        elif isinstance(made, Rejected):
            self._reject(unit, made)
        else:
            self._rows += made
            self._counts.by_split[made[0][6]] += 1

    def finish(self, file: AnnotationFile) -> Progressed:
        """Write what there is, and say what was done since the last time."""
        rows, counts = self._rows, self._counts
        counts.written, counts.num_bytes = len(rows), max(0, file.bytes_read - self._bytes_told)
        self._bytes_told += counts.num_bytes
        self._rows, self._counts = [], Counts()
        example: dict[str, str] | None = None
        if rows and self._number == 0:
            example = {name: cell for name, cell in zip(COLUMNS, rows[0], strict=True)}  # noqa: C416
        name = None
        if rows:
            name = f"{self._unit.stem}-{self._number:05d}.parquet"
            self._number += 1
            if self._out is not None:
                write_part(rows, self._out, name)
        return Progressed(self._unit.source, counts, name, example)

    def _reject(self, unit: Unit, entry: Rejected) -> None:
        self._counts.rejected += 1
        where = f"{unit.path} row {entry.number}: {entry.reason}"
        self._counts.first_rejected = self._counts.first_rejected or where
        if self._out is not None:
            line = {"file": unit.path, "row": entry.number, "reason": entry.reason}
            self._sink(self._out).write(json.dumps(line).encode() + b"\n")

    def _sink(self, out: str) -> Any:
        if self._rejects is None:
            rejects = open_output(f"{out.rstrip('/')}/rejected/{self._unit.stem}.jsonl")
            self._rejects = self._stack.enter_context(rejects)
        return self._rejects


def write_part(rows: list[Made], out: str, name: str) -> None:
    """Write triplets; a killed writer leaves no half file behind."""
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    table = pa.Table.from_arrays(columns, schema=SCHEMA)
    with open_output(f"{out.rstrip('/')}/{name}") as sink:
        pq.write_table(table, sink, compression="zstd")
