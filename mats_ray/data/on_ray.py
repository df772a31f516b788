"""Ray Data: stream embedded triplets, noised, to training workers.

Shapes: N rows, C CLAP dim.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
import torch
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy

from mats_ray.config import RunConfig
from mats_ray.data.embedded import EmbeddedTriplets
from mats_ray.data.mixture import check_layout
from mats_ray.data.stream import SpanReader, StreamPlace, noised, rebatched, spans_of, with_embeddings
from mats_ray.errors import DataError
from mats_ray.on_ray.data import finished_blocks


def training_rows(config: RunConfig, data: EmbeddedTriplets, place: StreamPlace) -> Iterator[pa.Table]:
    """Stream one worker's noised rows in micro-batches, in the order of the data or of the mixture.

    Reading, shuffling, CLAP where it runs online, and noise are Ray Data tasks and actors over spans of the
    stream, which run while the consumer trains.

    Returns:
        Tables with ``id``, ``instruction``, ``answer`` and ``embedding`` (noised, float32).

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
    dataset = _spans(config, data, place)
    if not data.stored:
        dataset = _embedded_online(config, dataset)
    dataset.context.execution_options.preserve_order = True
    # Whole blocks, cut into micro-batches here: Ray's own cutting needs more time than all the rest. The
    # worker's dataloader prefetches, so Ray does not.
    return rebatched(finished_blocks(dataset), config.train.micro_batch_size)


def _spans(config: RunConfig, data: EmbeddedTriplets, place: StreamPlace) -> Dataset:
    """Read spans, one at a time: some 10,000 rows/s, where a worker needs some 100."""
    plan = spans_of(config, place)
    spans = ray.data.from_items(plan, override_num_blocks=len(plan))
    settings: dict[str, Any] = {"batch_size": None, "batch_format": "numpy", "num_cpus": 0.25}
    reader = SpanReader(config, data, place)
    if config.data.mixture.by == "source":  # an actor, which keeps what it has read of each source
        return spans.map_batches(
            _SpanActor,  # pyright: ignore[reportArgumentType]  (a dict, by batch_format)
            fn_constructor_args=[reader],
            compute=ActorPoolStrategy(size=1),
            **settings,
        )
    return spans.map_batches(
        _read_spans,  # pyright: ignore[reportArgumentType]
        fn_args=[reader],
        compute=TaskPoolStrategy(size=1),
        **settings,
    )


def _embedded_online(config: RunConfig, dataset: Dataset) -> Dataset:
    settings = config.data.embed
    return dataset.map_batches(
        _OnlineEmbedder,  # pyright: ignore[reportArgumentType]  (a table, by batch_format)
        fn_constructor_args=[config],
        batch_size=settings.batch_size,
        batch_format="pyarrow",
        num_cpus=settings.cpus_per_actor,
        num_gpus=settings.gpus_per_actor or None,
        compute=ActorPoolStrategy(size=settings.concurrency),
    )


def _read_spans(batch: dict[str, np.ndarray], reader: SpanReader) -> pa.Table:
    return pa.concat_tables([reader.read((int(start), int(stop))) for start, stop in batch["item"]])


class _SpanActor:
    """Actor: holds a reader with its row groups."""

    def __init__(self, reader: SpanReader) -> None:
        self.reader = reader

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        return _read_spans(batch, self.reader)


class _OnlineEmbedder:
    """Actor: holds CLAP, embeds and noises rows on their way to a training worker."""

    def __init__(self, config: RunConfig) -> None:
        # imported here: tasks that only read use this module too, and need not load transformers
        from mats_ray.models.build import build_clap

        settings = config.data.embed
        torch.set_num_threads(max(1, int(settings.cpus_per_actor)))
        self.seed, self.variance = config.seed, config.model.noise.variance
        self.clap = build_clap(config.clap).to("cuda" if settings.gpus_per_actor else "cpu")

    def __call__(self, table: pa.Table) -> pa.Table:
        return noised(with_embeddings(table, self.clap), seed=self.seed, variance=self.variance)
