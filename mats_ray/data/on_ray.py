"""Ray Data: stream embedded triplets, noised, to training workers.

One actor reads for all workers of a run; each worker's own pipeline takes its rows there and adds the noise.

Shapes: N rows, C CLAP dim.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy

from mats_ray.config import RunConfig
from mats_ray.config.model import known_variance
from mats_ray.data.embedded import EmbeddedTriplets
from mats_ray.data.mixture import check_layout
from mats_ray.data.shared_spans import SharedSpans
from mats_ray.data.stream import SpanReader, StreamPlace, noised, rebatched, spans_of, with_embeddings
from mats_ray.errors import DataError
from mats_ray.on_ray.data import MAX_RETRIES, finished_blocks, this_node


def start_reader(config: RunConfig, data: EmbeddedTriplets, place: StreamPlace, ranks: Sequence[int]) -> Any:
    """Start the actor that reads a stream for several workers; it ends with the process that started it.

    It stays on the node of that process, a training worker: with the node, the group of workers starts anew.

    Args:
        config: Configuration of the run.
        data: Embedded triplets.
        place: Samples to read; its rank does not matter.
        ranks: Workers that will take rows, every one of them.

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
    actor: Any = ray.remote(SharedSpans)
    return actor.options(
        num_cpus=0,  # training workers may hold every CPU of the node
        max_concurrency=2 * len(ranks),  # one call of each, and one of a task that died waiting
        max_restarts=MAX_RETRIES,
        max_task_retries=MAX_RETRIES,
        scheduling_strategy=this_node(),
    ).remote(SpanReader(config, data, place), ranks)


def training_rows(
    config: RunConfig, data: EmbeddedTriplets, place: StreamPlace, *, reader: Any = None
) -> Iterator[pa.Table]:
    """Stream one worker's noised rows in micro-batches, in the order of the data or of the mixture.

    Reading, shuffling, CLAP where it runs online, and noise are Ray Data tasks and actors over spans of the
    stream, which run while the consumer trains.

    Args:
        config: Configuration of the run.
        data: Embedded triplets.
        place: Samples and rank of the worker.
        reader: Actor of ``start_reader`` for this place and all its workers; one for this worker alone when
            absent.

    Returns:
        Tables with ``id``, ``instruction``, ``answer`` and ``embedding`` (noised, float32).

    Raises:
        DataError: See ``start_reader``.
        ConfigError: See ``start_reader``.
    """
    reader = reader or start_reader(config, data, place, [place.rank])
    indices = list(range(len(spans_of(config, place))))
    dataset = ray.data.from_items(indices, override_num_blocks=len(indices)).map_batches(
        _take_shares,  # pyright: ignore[reportArgumentType]  (a dict, by batch_format)
        fn_kwargs={"reader": reader, "rank": place.rank, "config": config, "stored": data.stored},
        batch_size=None,
        batch_format="numpy",
        num_cpus=0.25,
        compute=TaskPoolStrategy(size=1),  # some 10,000 rows/s, where a worker needs some 100
    )
    if not data.stored:
        dataset = _embedded_online(config, dataset)
    dataset.context.execution_options.preserve_order = True
    # Whole blocks, cut into micro-batches here: Ray's own cutting needs more time than all the rest. The
    # worker's dataloader prefetches, so Ray does not.
    return rebatched(finished_blocks(dataset), config.train.micro_batch_size)


def _take_shares(
    batch: dict[str, np.ndarray], *, reader: Any, rank: int, config: RunConfig, stored: bool
) -> pa.Table:
    shares: list[pa.Table] = [ray.get(reader.take.remote(int(index), rank)) for index in batch["item"]]
    rows = pa.concat_tables(shares)
    return (
        noised(rows, seed=config.seed, variance=known_variance(config.model.noise.variance))
        if stored
        else rows
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


class _OnlineEmbedder:
    """Actor: holds CLAP, embeds and noises rows on their way to a training worker."""

    def __init__(self, config: RunConfig) -> None:
        # imported here: tasks that only read use this module too, and need not load transformers
        from mats_ray.models.build import build_clap

        settings = config.data.embed
        torch.set_num_threads(max(1, int(settings.cpus_per_actor)))
        self.seed, self.variance = config.seed, known_variance(config.model.noise.variance)
        self.clap = build_clap(config.clap).to("cuda" if settings.gpus_per_actor else "cpu")

    def __call__(self, table: pa.Table) -> pa.Table:
        return noised(with_embeddings(table, self.clap), seed=self.seed, variance=self.variance)
