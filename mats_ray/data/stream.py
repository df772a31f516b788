"""What one training worker reads of the stream: a span of whole global batches at a time. Knows no Ray.

Shapes: N rows, C CLAP dim.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from mats_ray.config import RunConfig
from mats_ray.data.embedded import EmbeddedTriplets, read_group
from mats_ray.data.order import chunks, rows_of_span, rows_of_worker, spans
from mats_ray.data.storage import locate
from mats_ray.data.triplets import EMBEDDING, embedding_matrix, row_key
from mats_ray.models.noise import add_noise, row_noise

TEXT_COLUMNS = ["id", "instruction", "answer"]
CHUNKS_PER_SPAN = 2
"""A span begins and ends inside a row group, which is read again for the next span: one in two, with two."""


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """Which samples of the endless stream one worker wants: its part of the batches in [start, stop)."""

    start: int
    """A multiple of the global batch size; ``stop``, too."""
    stop: int
    rank: int
    num_workers: int


def plan_of(config: RunConfig, place: StreamPlace) -> list[tuple[int, int]]:
    """Cut a place in the stream into spans."""
    num_rows = CHUNKS_PER_SPAN * config.data.chunk_rows
    return spans(place.start, place.stop, batch_size=config.train.global_batch_size, num_rows=num_rows)


@dataclass(frozen=True)
class SpanReader:
    """Span -> the rows one worker wants of it, in the order it uses them, with this epoch's noise."""

    config: RunConfig
    data: EmbeddedTriplets
    place: StreamPlace

    def read(self, span: tuple[int, int]) -> pa.Table:
        """Return ``id``, ``instruction``, ``answer`` and ``embedding`` (noised, float32)."""
        config, place = self.config, self.place
        table, epochs = self._in_stream_order(span)
        rows = rows_of_worker(
            _lengths(table) if config.data.group_by_length else np.zeros(len(table), np.int64),
            batch_size=config.train.global_batch_size,
            micro_batch_size=config.train.micro_batch_size,
            rank=place.rank,
            num_workers=place.num_workers,
        )
        mine = table.take(pa.array(rows))
        return noised(mine, epochs=epochs[rows], seed=config.seed, variance=config.model.noise.variance)

    def _in_stream_order(self, span: tuple[int, int]) -> tuple[pa.Table, np.ndarray]:
        filesystem, _ = locate(self.config.embedded_path)
        seed = self.config.seed
        parts: list[pa.Table] = []
        epochs: list[np.ndarray] = []
        for chunk in chunks(self.data.groups, seed=seed, start=span[0], stop=span[1]):
            rows = rows_of_span(chunk, seed=seed, span=span)
            parts.append(read_group(filesystem, chunk.group, [*TEXT_COLUMNS, EMBEDDING]).take(pa.array(rows)))
            epochs.append(np.full(len(rows), chunk.epoch))
        return pa.concat_tables(parts), np.concatenate(epochs)


def _lengths(table: pa.Table) -> np.ndarray:
    """Characters of instruction and answer: near enough to tokens to put like with like."""
    texts = (table.column(name) for name in ("instruction", "answer"))
    instructions, answers = (pc.call_function("utf8_length", [text]).to_numpy() for text in texts)
    return instructions + answers


def noised(table: pa.Table, *, epochs: np.ndarray | None, seed: int, variance: float) -> pa.Table:
    """Noise clean rows.

    Args:
        table: With ``TEXT_COLUMNS`` and clean embeddings.
        epochs: Of each row: every pass over the data draws anew; None: the first one for all.
        seed: Of the run.
        variance: Of the noise.
    """
    matrix_NC = embedding_matrix(table.column(EMBEDDING))
    keys = np.array([row_key(row_id) for row_id in table.column("id").to_pylist()], np.int64)
    epochs = np.zeros(len(table), np.int64) if epochs is None else epochs
    for epoch in np.unique(epochs):
        rows = np.flatnonzero(epochs == epoch)
        clean_NC = torch.from_numpy(matrix_NC[rows])
        noise_NC = row_noise(keys[rows].tolist(), clean_NC.shape[1], seed=seed, epoch=int(epoch))
        matrix_NC[rows] = add_noise(clean_NC, noise_NC, variance=variance).numpy()
    column = pa.FixedSizeListArray.from_arrays(pa.array(matrix_NC.reshape(-1)), matrix_NC.shape[1])
    return table.select(TEXT_COLUMNS).append_column(EMBEDDING, column)
