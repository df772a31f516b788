"""Ray Data: stream embedded triplets, noised, to training workers.

Shapes: N rows, C CLAP dim.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
import torch
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy

from mats_ray.config import RunConfig
from mats_ray.data.embedded import EmbeddedTriplets
from mats_ray.data.mixture import Mixture, check_layout, groups_by_source
from mats_ray.data.order import chunks
from mats_ray.data.reading import (
    ChunkReader,
    MixtureReader,
    Span,
    StreamPlace,
    noised,
    rebatched,
    with_embeddings,
)
from mats_ray.data.sources.audiotia import paper_weights
from mats_ray.errors import DataError

__all__ = ["StreamPlace", "training_rows"]

BATCHES_PER_TASK = 64
"""Batches of a mixture that are read together."""


def training_rows(
    config: RunConfig, data: EmbeddedTriplets, place: StreamPlace, *, micro_batch_size: int
) -> Iterator[pa.Table]:
    """Stream one worker's noised rows in micro-batches, in the order of the data or of the mixture.

    Reading, shuffling, CLAP where it runs online, and noise are Ray Data tasks and actors, ahead of the
    consumer.

    Returns:
        Tables with ``embedding`` (noised, float32), ``instruction`` and ``answer``.

    Raises:
        DataError: The files were written for another mixture, or with (without) embeddings.
        ConfigError: A source of the data has no weight.
    """
    check_layout(data.groups, by=config.data.mixture.by, where=config.embedded_path)
    if data.stored != (config.data.embed.mode == "stored"):
        found = "stored" if data.stored else "online"
        raise DataError(
            f"{config.embedded_path} was written with data.embed.mode={found}, the configuration says "
            f"{config.data.embed.mode}; run `mats embed` again"
        )
    mixed = config.data.mixture.by == "source"
    dataset = _mixture(config, data, place) if mixed else _chunks(config, data, place)
    if not data.stored:
        dataset = _embedded_online(config, dataset)
    dataset.context.execution_options.preserve_order = True
    # Blocks as they come, cut here: Ray's own cutting into micro-batches takes longer than all the rest.
    blocks: Any = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)
    return rebatched(blocks, micro_batch_size)


def _chunks(config: RunConfig, data: EmbeddedTriplets, place: StreamPlace) -> Dataset:
    plan = list(chunks(data.groups, seed=config.seed, start=place.start, stop=place.stop))
    # One task at a time keeps far ahead of a worker: some 10,000 rows/s against some 100 that it consumes.
    return ray.data.from_items(plan, override_num_blocks=len(plan)).map_batches(
        _ChunkTask(ChunkReader(config, place, stored=data.stored)),  # pyright: ignore[reportArgumentType]
        batch_size=None,
        batch_format="numpy",
        num_cpus=0.25,
        compute=TaskPoolStrategy(size=1),
    )


def _mixture(config: RunConfig, data: EmbeddedTriplets, place: StreamPlace) -> Dataset:
    size, weights = config.train.global_batch_size, config.data.mixture.weights or paper_weights()
    groups = groups_by_source(data.groups, weights)
    mixture = Mixture({name: weights[name] for name in groups}, seed=config.seed)
    first, last = place.start // size, -(-place.stop // size)
    plan = [Span(n, min(n + BATCHES_PER_TASK, last)) for n in range(first, last, BATCHES_PER_TASK)]
    return ray.data.from_items(plan, override_num_blocks=len(plan)).map_batches(
        _MixtureActor,  # pyright: ignore[reportArgumentType]  (a dict, as batch_format says)
        fn_constructor_args=[MixtureReader(config, place, mixture, groups, stored=data.stored)],
        batch_size=None,
        batch_format="numpy",
        num_cpus=0.25,
        compute=ActorPoolStrategy(size=1),  # one, which keeps what it has read of each source
    )


def _embedded_online(config: RunConfig, dataset: Dataset) -> Dataset:
    settings = config.data.embed
    return dataset.map_batches(
        _OnlineEmbedder,  # pyright: ignore[reportArgumentType]  (a table, as batch_format says)
        fn_constructor_args=[config],
        batch_size=settings.batch_size,
        batch_format="pyarrow",
        num_cpus=settings.cpus_per_actor,
        num_gpus=settings.gpus_per_actor or None,
        compute=ActorPoolStrategy(size=settings.concurrency),
    )


@dataclass(frozen=True)
class _ChunkTask:
    """Task: row groups -> the rows one worker wants of them."""

    reader: ChunkReader

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        return pa.concat_tables([self.reader.read(chunk) for chunk in batch["item"]])


class _MixtureActor:
    """Actor: spans of batches -> the rows one worker wants of them."""

    def __init__(self, reader: MixtureReader) -> None:
        self.reader = reader

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        return pa.concat_tables([self.reader.read(span) for span in batch["item"]])


class _OnlineEmbedder:
    """Actor: holds CLAP, embeds and noises rows on their way to a training worker."""

    def __init__(self, config: RunConfig) -> None:
        # imported here: tasks that only read use this module too, and need not load transformers for seconds
        from mats_ray.models.clap import load_clap

        settings = config.data.embed
        torch.set_num_threads(max(1, int(settings.cpus_per_actor)))
        self.config: Any = config
        self.clap = load_clap(config.clap_ref).to("cuda" if settings.gpus_per_actor else "cpu")

    def __call__(self, table: pa.Table) -> pa.Table:
        return noised(with_embeddings(table, self.clap), self.config)
