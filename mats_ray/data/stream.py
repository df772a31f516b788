"""The rows of training workers, read span by span: whole global batches at a time. Without Ray.

Shapes: N rows, C CLAP dim.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mats_ray.config import RunConfig
from mats_ray.config.model import known_variance
from mats_ray.data.embedded import EmbeddedTriplets, read_group
from mats_ray.data.mixture import mixture_of
from mats_ray.data.order import Chunk, RowGroup, chunks, rows_of_span, rows_of_worker, spans
from mats_ray.data.triplets import EMBEDDING, embedding_array, embedding_matrix, row_key
from mats_ray.storage import Environment

if TYPE_CHECKING:
    from mats_ray.models.clap import CLAP

TEXT_COLUMNS = ["id", "instruction", "answer"]
EPOCH = "epoch"
"""Column of a row's epoch, between reading and noise."""
CHUNKS_PER_SPAN = 2
"""Row groups per span."""

Span = tuple[int, int]
"""Samples [start, stop) of the stream, whole global batches."""


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """Samples of the endless stream that one worker trains on: its share of the batches in [start, stop)."""

    start: int
    """A multiple of the global batch size; ``stop``, too."""
    stop: int
    rank: int
    num_workers: int


def spans_of(config: RunConfig, place: StreamPlace) -> list[Span]:
    """Cut a place in the stream into spans."""
    num_rows = CHUNKS_PER_SPAN * config.data.chunk_rows
    return spans(place.start, place.stop, batch_size=config.train.global_batch_size, num_rows=num_rows)


class SpanReader:
    """Reads the rows of a span: those of every worker, or of one with this epoch's noise.

    Keeps the last row group of each source, in which the source's next batch begins: spans in their order
    read a row group once per epoch.

    Args:
        config: Configuration of the run.
        data: Embedded triplets to read.
        place: Samples to read; the rank of the worker is that of ``read``.

    Raises:
        ConfigError: See ``mixture_of``.
    """

    def __init__(self, config: RunConfig, data: EmbeddedTriplets, place: StreamPlace) -> None:
        self.config, self.data, self.place = config, data, place
        self._environment = Environment()  # it reads in other processes
        self._last_of: dict[str, tuple[RowGroup, pa.Table]] = {}
        self._by_source: dict[str, list[RowGroup]] = {}
        if config.data.mixture.by == "source":
            self._by_source, self._mixture = mixture_of(
                config.data.mixture, data.groups, seed=config.seed, where=config.embedded_path
            )

    def read(self, span: Span) -> pa.Table:
        """Return the worker's rows: ``id``, ``instruction``, ``answer`` and ``embedding`` (noised, float32).

        Where embeddings are not stored: ``text`` and the row's epoch in place of ``embedding``.
        """
        own = self.shares(span)[self.place.rank]
        if not self.data.stored:
            return own
        return noised(own, seed=self.config.seed, variance=known_variance(self.config.model.noise.variance))

    def shares(self, span: Span) -> list[pa.Table]:
        """Return each worker's rows in training order, without noise.

        Columns are ``TEXT_COLUMNS``, ``embedding`` (clean; ``text`` where it is not stored) and the row's
        epoch.
        """
        self._environment.use()
        table = pa.concat_tables(
            self._rows(source, chunk, rows_of_span(chunk, seed=self.config.seed, span=samples))
            for source, chunk, samples in self._chunks(span)
        ).combine_chunks()
        train, workers = self.config.train, self.place.num_workers
        by_length = self.config.data.group_by_length
        lengths = _lengths(table) if by_length else np.zeros(len(table), np.int64)
        rows = (
            rows_of_worker(
                lengths,
                batch_size=train.global_batch_size,
                micro_batch_size=train.micro_batch_size,
                rank=rank,
                num_workers=workers,
            )
            for rank in range(workers)
        )
        return [table.take(pa.array(own)) for own in rows]

    def _chunks(self, span: Span) -> Iterator[tuple[str, Chunk, Span]]:
        """Yield the chunks of a span with the samples to read, of one stream or of each source's own."""
        seed, size = self.config.seed, self.config.train.global_batch_size
        if not self._by_source:
            for chunk in chunks(self.data.groups, seed=seed, start=span[0], stop=span[1]):
                yield "", chunk, span
            return
        for source, index in self._mixture.batches(span[0] // size, span[1] // size):
            start, stop = index * size, (index + 1) * size
            for chunk in chunks(self._by_source[source], seed=seed, start=start, stop=stop):
                yield source, chunk, (start, stop)

    def _rows(self, source: str, chunk: Chunk, rows: np.ndarray) -> pa.Table:
        epochs = pa.array(np.full(len(rows), chunk.epoch), pa.int64())
        return self._table_of(source, chunk.group).take(pa.array(rows)).append_column(EPOCH, epochs)

    def _table_of(self, source: str, group: RowGroup) -> pa.Table:
        last = self._last_of.get(source)
        if last is None or last[0] != group:
            columns = [*TEXT_COLUMNS, EMBEDDING if self.data.stored else "text"]
            last = self._last_of[source] = (group, read_group(group, columns))
        return last[1]


def rebatched(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """Cut a stream of tables into tables of ``size`` rows; the last may have fewer."""
    rest: pa.Table | None = None
    for table in tables:
        joined = table if rest is None else pa.concat_tables([rest, table])
        whole = len(joined) - len(joined) % size
        for start in range(0, whole, size):
            yield joined.slice(start, size)
        rest = joined.slice(whole) if whole < len(joined) else None
    if rest is not None:
        yield rest


def with_embeddings(table: pa.Table, clap: "CLAP") -> pa.Table:
    """Put embeddings in the place of texts: the values that would have been stored."""
    texts, row_of_text = np.unique(table.column("text").to_pylist(), return_inverse=True)
    clean_MC = clap.encode_text(texts.tolist(), batch_size=len(texts)).cpu().numpy()
    return table.drop_columns("text").append_column(EMBEDDING, embedding_array(clean_MC[row_of_text]))


def noised(table: pa.Table, *, seed: int, variance: float) -> pa.Table:
    """Noise clean rows by (seed, epoch, row id).

    Args:
        table: With ``TEXT_COLUMNS``, clean embeddings and each row's epoch: noise is drawn
            anew in each epoch; without that column, the first epoch for all.
        seed: Seed of the run.
        variance: Variance of the noise.
    """
    # imported here: the process that reads for all workers needs neither
    import torch

    from mats_ray.models.noise import add_noise, row_noise

    clean_NC = torch.from_numpy(embedding_matrix(table.column(EMBEDDING)))
    keys = np.array([row_key(row_id) for row_id in table.column("id").to_pylist()], np.int64)
    known = EPOCH in table.column_names
    epochs = table.column(EPOCH).to_numpy() if known else np.zeros(len(table), np.int64)
    noise_NC = torch.empty_like(clean_NC)
    for epoch in np.unique(epochs):
        rows = np.flatnonzero(epochs == epoch)
        drawn_NC = row_noise(keys[rows].tolist(), clean_NC.shape[1], seed=seed, epoch=int(epoch))
        noise_NC[torch.from_numpy(rows)] = drawn_NC
    noised_NC = add_noise(clean_NC, noise_NC, variance=variance).numpy()
    column = pa.FixedSizeListArray.from_arrays(pa.array(noised_NC.reshape(-1)), noised_NC.shape[1])
    return table.select(TEXT_COLUMNS).append_column(EMBEDDING, column)


def _lengths(table: pa.Table) -> np.ndarray:
    """Characters of instruction and answer: near enough to tokens to group rows of like length."""
    texts = (table.column(name) for name in ("instruction", "answer"))
    instructions, answers = (pc.call_function("utf8_length", [text]).to_numpy() for text in texts)
    return instructions + answers
