"""From row groups to the rows of one training worker: which, in what order, with this epoch's noise.

Shapes: N rows, C CLAP dim.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch

from mats_ray.config import RunConfig
from mats_ray.data.embedded import read_group
from mats_ray.data.mixture import Mixture
from mats_ray.data.order import Chunk, RowGroup, chunks, rows_of_worker
from mats_ray.data.storage import locate
from mats_ray.data.triplets import EMBEDDING, embedding_array, embedding_matrix, row_key
from mats_ray.models.noise import add_noise, row_noise

if TYPE_CHECKING:
    from mats_ray.models.clap import CLAP

EPOCH = "epoch"
"""Column between reading and noise."""


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """Which samples of the endless stream one worker wants."""

    start: int
    stop: int
    rank: int
    num_workers: int


@dataclass(frozen=True, slots=True)
class Span:
    """Batches ``first`` to ``last`` of the stream."""

    first: int
    last: int


@dataclass(frozen=True)
class ChunkReader:
    """Reads one row group: the rows one worker wants of it, shuffled, noised where the embedding is there."""

    config: RunConfig
    place: StreamPlace
    stored: bool

    def read(self, chunk: Chunk) -> pa.Table:
        """Read, order and noise."""
        span = (self.place.start, self.place.stop)
        table = wanted_rows(self.table_of(chunk.group), chunk, self.config, self.place, span)
        return noised(table, self.config) if self.stored else table

    def table_of(self, group: RowGroup) -> pa.Table:
        """Read a row group whole."""
        filesystem, _ = locate(self.config.embedded_path)
        return read_group(
            filesystem, group, ["id", "instruction", "answer", EMBEDDING if self.stored else "text"]
        )


class MixtureReader:
    """Reads batches of a mixture; keeps the last row groups, where a source's next batch likely is, too."""

    def __init__(
        self,
        config: RunConfig,
        place: StreamPlace,
        mixture: Mixture,
        groups: Mapping[str, Sequence[RowGroup]],
        *,
        stored: bool,
    ) -> None:
        self.chunks = ChunkReader(config, place, stored)
        self.mixture, self.groups = mixture, groups
        self._kept: OrderedDict[RowGroup, pa.Table] = OrderedDict()

    def read(self, span: Span) -> pa.Table:
        """Read, order and noise."""
        config, size = self.chunks.config, self.chunks.config.train.global_batch_size
        tables: list[pa.Table] = []
        for source, index in self.mixture.batches(span.first, span.last):
            samples = (index * size, (index + 1) * size)
            pieces = chunks(self.groups[source], seed=config.seed, start=samples[0], stop=samples[1])
            tables += [
                wanted_rows(self._table_of(chunk.group), chunk, config, self.chunks.place, samples)
                for chunk in pieces
            ]
        table = pa.concat_tables(tables)
        return noised(table, config) if self.chunks.stored else table

    def _table_of(self, group: RowGroup) -> pa.Table:
        if group not in self._kept:
            self._kept[group] = self.chunks.table_of(group)
            if len(self._kept) > len(self.groups) + 2:
                self._kept.popitem(last=False)
        self._kept.move_to_end(group)
        return self._kept[group]


def rebatched(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """Cut a stream of tables into tables of so many rows; the last may have fewer."""
    rest: pa.Table | None = None
    for table in tables:
        joined = table if rest is None else pa.concat_tables([rest, table])
        whole = len(joined) - len(joined) % size
        for start in range(0, whole, size):
            yield joined.slice(start, size)
        rest = joined.slice(whole) if whole < len(joined) else None
    if rest is not None:
        yield rest


def wanted_rows(
    table: pa.Table, chunk: Chunk, config: RunConfig, place: StreamPlace, span: tuple[int, int]
) -> pa.Table:
    """Take the rows of a row group that one worker consumes, in stream order, with their epoch."""
    rows = rows_of_worker(
        chunk,
        seed=config.seed,
        span=span,
        batch_size=config.train.global_batch_size,
        rank=place.rank,
        num_workers=place.num_workers,
    )
    epochs = pa.array(np.full(len(rows), chunk.epoch), pa.int64())
    return table.take(pa.array(rows)).append_column(EPOCH, epochs)


def with_embeddings(table: pa.Table, clap: "CLAP") -> pa.Table:
    """Put embeddings in the place of texts: the values that would have been stored."""
    texts, row_of_text = np.unique(table.column("text").to_pylist(), return_inverse=True)
    clean_MC = clap.encode_text(texts.tolist(), batch_size=len(texts)).cpu().numpy()
    return table.drop_columns("text").append_column(EMBEDDING, embedding_array(clean_MC[row_of_text]))


def noised(table: pa.Table, config: RunConfig) -> pa.Table:
    """Noise the embeddings of rows by (seed, epoch, row id): ``instruction``, ``answer``, ``embedding``."""
    clean_NC = torch.from_numpy(embedding_matrix(table.column(EMBEDDING)))
    keys = [row_key(row_id) for row_id in table.column("id").to_pylist()]
    epochs = table.column(EPOCH).to_numpy()
    noise_NC = torch.empty_like(clean_NC)
    for epoch in np.unique(epochs):
        rows = np.flatnonzero(epochs == epoch)
        chosen = [keys[row] for row in rows]
        noise_NC[rows] = row_noise(chosen, clean_NC.shape[1], seed=config.seed, epoch=int(epoch))
    noised_NC = add_noise(clean_NC, noise_NC, variance=config.model.noise.variance).numpy()
    column = pa.FixedSizeListArray.from_arrays(pa.array(noised_NC.reshape(-1)), noised_NC.shape[1])
    return table.select(["instruction", "answer"]).append_column(EMBEDDING, column)
