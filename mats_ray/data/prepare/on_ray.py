"""``mats prepare`` on Ray Data: files in, triplets out; tasks read and write, the driver only counts."""

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import TaskPoolStrategy

from mats_ray.config import RunConfig
from mats_ray.data.prepare.plan import FILE_PATTERN, Unit, plan
from mats_ray.data.prepare.report import Counts, PrepareReport
from mats_ray.data.prepare.unit import read_unit
from mats_ray.errors import DataError
from mats_ray.on_ray.data import execution, finished_blocks
from mats_ray.progress import Progress
from mats_ray.storage import (
    UNFINISHED,
    Environment,
    clear_pending,
    held,
    list_files,
    remove,
    remove_folder,
    write_bytes,
)

REPORT = "report.json"


def prepare(config: RunConfig, *, dry_run: bool = False) -> PrepareReport:
    """Turn the annotation files of ``data.prepare`` into triplets at ``config.triplets_path``.

    A dry run reads everything and writes nothing. Files of an earlier preparation are removed at the end;
    until then a marker keeps others from taking what is there for the whole.

    Raises:
        ConfigError: The configuration names nothing, or what there is no source for.
        DataError: A file or companion is missing or of another format, too many records are unusable (they
            are all in ``rejected/``), nothing is left, or another job writes the triplets.
    """
    started = time.monotonic()
    units = plan(config.data.prepare)
    report = PrepareReport(config.triplets_path, not dry_run)
    folder = _Folder(config.triplets_path)
    with nullcontext() if dry_run else held(config.triplets_path, by="mats prepare"):
        if not dry_run:
            folder.begin()
        written = _carry_out(config, units, report, write=not dry_run)
        report.seconds = time.monotonic() - started
        report.check(config.data.prepare.max_rejected_fraction, final=True)
        if not report.total.written:
            raise DataError(f"no triplets: all {report.total.records} records were dropped\n{report.table()}")
        if not dry_run:
            folder.end(written, report)
    return report


def _carry_out(config: RunConfig, units: list[Unit], report: PrepareReport, *, write: bool) -> set[str]:
    written: set[str] = set()
    num_bytes = sum(unit.num_bytes for unit in units)
    with Progress("prepare", total=None, unit="row") as progress:
        for message in _messages(config, units, write=write):
            counts = Counts.of_dict(message["counts"])
            report.sources.setdefault(message["source"], Counts()).add(counts)
            if message["example"]:
                report.examples.setdefault(message["source"], message["example"])
            if message["file"]:
                written.add(message["file"])
            done = report.total
            if done.num_bytes:  # how many rows there will be is what the bytes read so far let expect
                progress.total = round(done.records * max(1.0, num_bytes / done.num_bytes))
            progress.update(done.records, note=f"{done.written} triplets")
            report.check(config.data.prepare.max_rejected_fraction, final=False)
    return written


def _messages(config: RunConfig, units: list[Unit], *, write: bool) -> Iterator[dict[str, Any]]:
    """Yield what the tasks say, as they say it."""
    with execution() as context:
        # a message is a block: it comes when it is said, not when its task ends
        context.target_max_block_size = 1
        dataset = ray.data.from_items(list(range(len(units))), override_num_blocks=len(units)).map_batches(
            _read,  # pyright: ignore[reportArgumentType]  (a dict, as batch_format says)
            fn_kwargs={
                "units": units,
                "config": config,
                "write": write,
                "environment": Environment(),
            },
            batch_size=1,
            batch_format="numpy",
            compute=TaskPoolStrategy(size=min(config.data.prepare.concurrency, len(units))),
            num_cpus=1,
        )
        for table in finished_blocks(dataset):
            yield from (json.loads(message) for message in table.column("message").to_pylist())


def _read(
    batch: dict[str, Any],
    *,
    units: list[Unit],
    config: RunConfig,
    write: bool,
    environment: Environment,
) -> Iterator[pa.Table]:
    """Task: read one file."""
    environment.use()
    out = config.triplets_path if write else None
    for index in batch["item"]:
        for step in read_unit(units[int(index)], config.data.prepare, seed=config.seed, out=out):
            message = {
                "source": step.source,
                "counts": step.counts.to_dict(),
                "file": step.file,
                "example": step.example,
            }
            yield pa.table({"message": [json.dumps(message)]})


class _Folder:
    """The folder of triplets."""

    def __init__(self, path: str) -> None:
        self._folder = path.rstrip("/")

    def begin(self) -> None:
        """Mark it unfinished, forget what an earlier run rejected, or had half-written when it was killed."""
        write_bytes(f"{self._folder}/{UNFINISHED}", b"mats prepare\n")
        remove_folder(f"{self._folder}/rejected")
        clear_pending(self._folder)

    def end(self, written: set[str], report: PrepareReport) -> None:
        """Remove parts of an earlier run, leave the report, take the mark away."""
        for found in list_files(self._folder, recursive=False):
            if FILE_PATTERN.fullmatch(found.name) and found.name not in written:
                remove(found.path)
        write_bytes(f"{self._folder}/{REPORT}", json.dumps(report.to_dict(), indent=1).encode() + b"\n")
        remove(f"{self._folder}/{UNFINISHED}")
