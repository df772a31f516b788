"""``mats prepare`` on Ray Data: tasks convert annotation files to triplets, the driver counts."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import TaskPoolStrategy

from mats_ray.config import RunConfig
from mats_ray.data.prepare.conversion import check_input_files, convert_file
from mats_ray.data.prepare.input_files import FILE_PATTERN, InputFile, find_input_files
from mats_ray.data.prepare.prepare_report import Counts, PrepareReport
from mats_ray.errors import DataError
from mats_ray.on_ray.data import execution, finished_blocks
from mats_ray.progress import Progress
from mats_ray.storage import (
    UNFINISHED,
    Environment,
    clear_pending,
    list_files,
    lock_folder,
    remove,
    remove_folder,
    write_bytes,
)

REPORT = "report.json"


def prepare(
    config: RunConfig,
    *,
    dry_run: bool = False,
    cluster: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> PrepareReport:
    """Turn the annotation files of ``data.prepare`` into triplets at ``config.triplets_path``.

    A dry run reads everything and writes nothing. Files of an earlier preparation are removed at the end;
    until then a marker shows that the folder is unfinished.

    Args:
        config: Configuration of the run.
        dry_run: Write nothing.
        cluster: Starts Ray. Entered once the start of every file has been read without an error.

    Raises:
        ConfigError: The configuration names nothing, or an unknown source.
        DataError: A file or companion is missing or of another format, too many records are unusable (they
            are all in ``rejected/``), nothing is left, or another job writes the triplets.
    """
    started = time.monotonic()
    inputs = find_input_files(config.data.prepare)
    check_input_files(inputs, config.data.prepare)
    report = PrepareReport(config.triplets_path, not dry_run)
    folder = _OutputFolder(config.triplets_path)
    with nullcontext() if dry_run else lock_folder(config.triplets_path, by="mats prepare"):
        if not dry_run:
            folder.mark_unfinished()
        with cluster():
            written = _convert_all(config, inputs, report, write=not dry_run)
        report.seconds = time.monotonic() - started
        report.check(config.data.prepare.max_rejected_fraction, final=True)
        if not report.total.written:
            raise DataError(f"no triplets: all {report.total.records} records were dropped\n{report.table()}")
        if not dry_run:
            folder.finish(written, report)
    return report


def _convert_all(
    config: RunConfig, inputs: list[InputFile], report: PrepareReport, *, write: bool
) -> set[str]:
    written: set[str] = set()
    num_bytes = sum(input_file.num_bytes for input_file in inputs)
    with Progress("prepare", total=None, unit="row") as progress:
        for message in _messages(config, inputs, write=write):
            counts = Counts.from_dict(message["counts"])
            report.sources.setdefault(message["source"], Counts()).add(counts)
            if message["example"]:
                report.examples.setdefault(message["source"], message["example"])
            if message["file"]:
                written.add(message["file"])
            total = report.total
            if total.num_bytes:  # the number of rows is estimated from the bytes read so far
                progress.total = round(total.records * max(1.0, num_bytes / total.num_bytes))
            progress.update(total.records, note=f"{total.written} triplets")
            report.check(config.data.prepare.max_rejected_fraction, final=False)
    return written


def _messages(config: RunConfig, inputs: list[InputFile], *, write: bool) -> Iterator[dict[str, Any]]:
    """Yield the progress messages of the tasks as they come."""
    with execution() as context:
        # a message is a block: it arrives at once, not when its task ends
        context.target_max_block_size = 1
        dataset = ray.data.from_items(list(range(len(inputs))), override_num_blocks=len(inputs)).map_batches(
            _convert,  # pyright: ignore[reportArgumentType]  (a dict, by batch_format)
            fn_kwargs={
                "inputs": inputs,
                "config": config,
                "write": write,
                "environment": Environment(),
            },
            batch_size=1,
            batch_format="numpy",
            compute=TaskPoolStrategy(size=min(config.data.prepare.concurrency, len(inputs))),
            num_cpus=1,
        )
        for table in finished_blocks(dataset):
            yield from (json.loads(message) for message in table.column("message").to_pylist())


def _convert(
    batch: dict[str, Any],
    *,
    inputs: list[InputFile],
    config: RunConfig,
    write: bool,
    environment: Environment,
) -> Iterator[pa.Table]:
    """Task: convert files."""
    environment.use()
    out = config.triplets_path if write else None
    for index in batch["item"]:
        for step in convert_file(inputs[int(index)], config.data.prepare, seed=config.seed, out=out):
            message = {
                "source": step.source,
                "counts": step.counts.to_dict(),
                "file": step.file,
                "example": step.example,
            }
            yield pa.table({"message": [json.dumps(message)]})


class _OutputFolder:
    """The folder the triplets are written to."""

    def __init__(self, path: str) -> None:
        self._folder = path.rstrip("/")

    def mark_unfinished(self) -> None:
        """Mark it unfinished; remove rejected records and half-written files of an earlier run."""
        write_bytes(f"{self._folder}/{UNFINISHED}", b"mats prepare\n")
        remove_folder(f"{self._folder}/rejected")
        clear_pending(self._folder)

    def finish(self, written: set[str], report: PrepareReport) -> None:
        """Remove part files of an earlier run, write the report, remove the mark."""
        for found in list_files(self._folder, recursive=False):
            if FILE_PATTERN.fullmatch(found.name) and found.name not in written:
                remove(found.path)
        write_bytes(f"{self._folder}/{REPORT}", json.dumps(report.to_dict(), indent=1).encode() + b"\n")
        remove(f"{self._folder}/{UNFINISHED}")
