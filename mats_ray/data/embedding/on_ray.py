"""``mats embed`` on Ray Data: shuffle tasks, then an actor pool with CLAP."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray.data
import torch
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy

from mats_ray.config import RunConfig
from mats_ray.config.data import EmbedConfig
from mats_ray.config.model import CLAPConfig
from mats_ray.data.embedded import format_rows, rows_by_source
from mats_ray.data.embedding.embed_plan import (
    EmbedLedger,
    EmbedPlan,
    FinishedPartition,
    make_plan,
    triplet_files,
)
from mats_ray.data.embedding.partition import write_partition
from mats_ray.data.embedding.shuffle import scatter
from mats_ray.on_ray.data import MAX_RETRIES, execution, finished_blocks
from mats_ray.on_ray.resources import warn_if_too_few
from mats_ray.progress import Progress
from mats_ray.storage import Environment, lock_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EmbedSummary:
    """Summary of the output of an embedding job."""

    num_rows: int
    num_texts: int
    """Number of distinct texts: each was encoded once."""
    num_encoded: int
    """Number of texts encoded in this run, not in an earlier one; 0 where embeddings are not stored."""
    seconds: float
    path: str


def embed(
    config: RunConfig, *, cluster: Callable[[], AbstractContextManager[None]] = nullcontext
) -> EmbedSummary:
    """Embed every distinct text of the triplets once and write the triplets with their embeddings.

    Texts are hashed into partitions, so that equal texts are in one partition; an actor pool embeds a
    partition's distinct texts, those of like length together, and writes its Parquet file. Rows inside a file
    are ordered by a hash of their id, so the same triplets give the same files. A killed job resumes with the
    partitions that are missing; a finished one, run again, does nothing. With ``data.embed: online`` the same
    files are written without embeddings.

    Args:
        config: Configuration of the run.
        cluster: Starts Ray. Entered once triplets and CLAP have been checked, and only if files are missing.

    Raises:
        DataError: The triplets are missing, unfinished, malformed or empty; another job writes the output.
        ModelError: The CLAP cannot be loaded.
    """
    # imported here: tasks that shuffle use this module too, and need not load transformers for seconds
    from mats_ray.models.build import build_clap

    started = time.monotonic()
    files = triplet_files(config.triplets_path)  # first: without triplets there is no need for a CLAP
    sources = rows_by_source(config.triplets_path)
    logger.info("embedding %s of %s", format_rows(sources), config.triplets_path)
    identity = build_clap(config.clap).identity
    plan = make_plan(config.data, files, identity, triplets=config.triplets_path, out=config.embedded_path)
    ledger = EmbedLedger(plan)
    done, encoded = ledger.completed(), 0
    if done is None:
        with lock_folder(plan.out, by="mats embed"), cluster():
            done, encoded = _run(plan, ledger, config, sources)
    rows, texts = sum(one.num_rows for one in done), sum(one.num_texts for one in done)
    assert rows == plan.num_rows, f"{rows} rows were written of {plan.num_rows}"
    return EmbedSummary(rows, texts, encoded, time.monotonic() - started, config.embedded_path)


def _run(
    plan: EmbedPlan, ledger: EmbedLedger, config: RunConfig, sources: Mapping[str, int]
) -> tuple[list[FinishedPartition], int]:
    """Return all partitions, and the number of texts encoded for those of this run."""
    ledger.start()
    before = {one.partition for one in ledger.finished_partitions()}
    _scatter_all(plan, ledger)
    _write_all(plan, ledger, config)
    done = ledger.finished_partitions()
    ledger.finish(done, sources)
    return done, sum(one.num_texts for one in done if plan.stored and one.partition not in before)


def _scatter_all(plan: EmbedPlan, ledger: EmbedLedger) -> None:
    scattered = ledger.scattered_files()
    missing = [index for index in range(len(plan.files)) if index not in scattered]
    if not missing or len(ledger.finished_partitions()) == plan.num_partitions:
        return
    with execution(), Progress("shuffle", total=plan.num_rows, unit="row") as progress:
        dataset = _items(missing).map_batches(
            _scatter,  # pyright: ignore[reportArgumentType]  (a dict, by batch_format)
            fn_kwargs={"plan": plan, "environment": Environment()},
            batch_size=1,
            batch_format="numpy",
            num_cpus=0.5,
            compute=TaskPoolStrategy(size=min(2, len(missing))),
        )
        progress.start_at(sum(plan.files[index].num_rows for index in scattered))
        for table in finished_blocks(dataset):
            progress.advance(sum(table.column("num_rows").to_pylist()))


def _scatter(batch: dict[str, Any], *, plan: EmbedPlan, environment: Environment) -> pa.Table:
    environment.use()
    return pa.table({"num_rows": [scatter(plan, int(index)) for index in batch["item"]]})


def _write_all(plan: EmbedPlan, ledger: EmbedLedger, config: RunConfig) -> None:
    done = {one.partition: one for one in ledger.finished_partitions()}
    missing = [index for index in range(plan.num_partitions) if index not in done]
    if not missing:
        return
    settings, texts = config.data.embed, sum(one.num_texts for one in done.values())
    number, gpus = min(settings.concurrency, len(missing)), settings.gpus_per_actor
    terms = f"{number} x data.embed.gpus_per_actor={gpus:g}"
    warn_if_too_few("embedding", "GPU", number * gpus, terms=terms)
    with execution(), Progress("embed", total=plan.num_rows, unit="row") as progress:
        dataset = _items(missing).map_batches(
            _PartitionWriter,  # pyright: ignore[reportArgumentType]
            fn_constructor_args=[plan, config.clap, settings, Environment()],
            batch_size=1,
            batch_format="numpy",
            compute=ActorPoolStrategy(size=number),
            num_cpus=settings.cpus_per_actor,
            num_gpus=gpus or None,
            max_task_retries=MAX_RETRIES,
        )
        progress.start_at(sum(one.num_rows for one in done.values()))
        for table in finished_blocks(dataset):
            for row in table.to_pylist():
                texts += row["num_texts"]
                progress.advance(row["num_rows"], note=f"{texts} texts")


class _PartitionWriter:
    """Actor: holds CLAP, writes the files of partitions and records each in the ledger."""

    def __init__(
        self, plan: EmbedPlan, clap: CLAPConfig, settings: EmbedConfig, environment: Environment
    ) -> None:
        environment.use()
        self.plan, self.batch_size, self.clap = plan, settings.batch_size, None
        torch.set_num_threads(max(1, int(settings.cpus_per_actor)))
        if plan.stored:
            from mats_ray.models.build import build_clap

            self.clap = build_clap(clap).to("cuda" if settings.gpus_per_actor else "cpu")

    def __call__(self, batch: dict[str, Any]) -> pa.Table:
        done = [self._write_partition(int(index)) for index in batch["item"]]
        return pa.table({"num_rows": [o.num_rows for o in done], "num_texts": [o.num_texts for o in done]})

    def _write_partition(self, partition: int) -> FinishedPartition:
        done = write_partition(self.plan, partition, self.clap, batch_size=self.batch_size)
        EmbedLedger(self.plan).record(done)
        return done


def _items(indices: list[int]) -> Dataset:
    return ray.data.from_items(indices, override_num_blocks=len(indices))
