"""The order of training samples: a pure function of (seed, data), the same for every number of workers.

Epochs follow each other in one endless stream of samples. In each epoch the row groups of all Parquet files
come in a shuffled order, and the rows of each group are shuffled among themselves. Sample s of the stream
belongs to global batch s // global_batch_size, whose micro-batches are assigned to W workers in turn. So a
resumed run needs one number, the count of samples consumed, and skipping to it costs nothing.

Shuffling reaches across groups but rows of one group stay together; ``mats embed`` therefore writes rows to
groups by a hash, not in source order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mats_ray.errors import DataError


@dataclass(frozen=True, slots=True, order=True)
class RowGroup:
    """One row group of one Parquet file."""

    path: str
    index: int
    num_rows: int
    """Number of rows that are used: all of them, or those of ``splits``."""
    splits: tuple[str, ...] = ()
    """Splits whose rows are used; empty: all rows."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A row group at its place in the stream of samples."""

    group: RowGroup
    epoch: int
    place: int
    """Index of the group among all groups in file order: seeds the shuffle of its rows."""
    first_sample: int
    """Stream index of its first row after shuffling."""


def chunks(groups: Sequence[RowGroup], *, seed: int, start: int, stop: int) -> Iterator[Chunk]:
    """Yield the chunks that hold samples ``start`` to ``stop`` of the stream, in order.

    Raises:
        DataError: There are no rows.
    """
    rows_per_epoch = sum(group.num_rows for group in groups)
    if rows_per_epoch == 0:
        raise DataError("the training data holds no rows")
    epoch = start // rows_per_epoch
    position = epoch * rows_per_epoch
    while position < stop:
        for place in np.random.default_rng((seed, epoch)).permutation(len(groups)):
            group = groups[int(place)]
            if position < stop and position + group.num_rows > start:
                yield Chunk(group, epoch, int(place), position)
            position += group.num_rows
        epoch += 1


def row_order(chunk: Chunk, *, seed: int) -> np.ndarray:
    """Return the shuffled row indices of a chunk, (num_rows,) int64."""
    rng = np.random.default_rng((seed, chunk.epoch, chunk.place + 1))
    return rng.permutation(chunk.group.num_rows)


def rows_of_span(chunk: Chunk, *, seed: int, span: tuple[int, int]) -> np.ndarray:
    """Return the row indices of a chunk whose samples lie in [start, stop), in stream order."""
    first = max(0, span[0] - chunk.first_sample)
    return row_order(chunk, seed=seed)[first : max(first, span[1] - chunk.first_sample)]


def spans(start: int, stop: int, *, batch_size: int, num_rows: int) -> list[tuple[int, int]]:
    """Cut [start, stop) of the stream into spans of whole global batches, about ``num_rows`` samples each."""
    length = max(1, num_rows // batch_size) * batch_size
    return [(first, min(first + length, stop)) for first in range(start, stop, length)]


def rows_of_worker(
    lengths: np.ndarray, *, batch_size: int, micro_batch_size: int, rank: int, num_workers: int
) -> np.ndarray:
    """Return the samples of a span that one worker trains on, micro-batch after micro-batch.

    Each global batch is sorted by length and cut into micro-batches of like length, assigned to the workers
    in turn: little padding, and equally long steps on all workers. The samples of a global batch, and so the
    loss, do not depend on it; nor do those of a micro-batch on the number of workers.

    Args:
        lengths: Lengths of the span's samples in stream order, in any measure; if all are equal, the order is
            that of the stream.
        batch_size: Global batch, a multiple of ``micro_batch_size * num_workers``.
        micro_batch_size: Number of rows that are padded together.
        rank: Rank of the worker.
        num_workers: W.
    """
    by_batch = lengths.reshape(-1, batch_size)
    order = by_batch.argsort(axis=1, kind="stable") + np.arange(len(by_batch))[:, None] * batch_size
    micro_batches = order.reshape(len(by_batch), -1, micro_batch_size)
    return micro_batches[:, rank::num_workers].reshape(-1)
