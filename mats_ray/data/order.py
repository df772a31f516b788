"""The order of training samples: a pure function of (seed, data), the same for every number of workers.

Epochs follow each other in one endless stream of samples. In each epoch the row groups of all Parquet files
come in a shuffled order, and the rows of each group are shuffled among themselves. Sample s of the stream
belongs to global batch s // global_batch_size; within a batch, worker r of W owns the r-th W-th part. So a
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


@dataclass(frozen=True, slots=True)
class Chunk:
    """A row group at its place in the stream of samples."""

    group: RowGroup
    epoch: int
    place: int
    """Of the group among all groups in file order: seeds the shuffle of its rows."""
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


def rows_of_worker(
    chunk: Chunk, *, seed: int, span: tuple[int, int], batch_size: int, rank: int, num_workers: int
) -> np.ndarray:
    """Return the row indices of a chunk that one worker consumes, in stream order.

    Args:
        chunk: From ``chunks``.
        seed: Of the run.
        span: Samples outside [start, stop) were consumed before or are not wanted.
        batch_size: Global batch, a multiple of ``num_workers``.
        rank: Of the worker.
        num_workers: W.
    """
    order = row_order(chunk, seed=seed)
    samples = chunk.first_sample + np.arange(len(order))
    owner = samples % batch_size // (batch_size // num_workers)
    wanted = (samples >= span[0]) & (samples < span[1]) & (owner == rank)
    return order[wanted]
