"""Batches on their way from the driver to Ray Data, which reads them as they are made.

An actor on the driver's node. A batch is kept until all its rows have arrived: a reader that has to begin
again, as its process was killed, gets the same batches under the same numbers, and empty ones for those that
are done.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping

import pyarrow as pa


class BatchFeed:
    """A bounded queue with numbers.

    Args:
        max_batches: Number of batches that are not done; ``put`` waits while there are so many.
    """

    def __init__(self, max_batches: int) -> None:
        self._max_batches = max_batches
        self._batches, self._num_left = dict[int, pa.Table](), dict[int, int]()
        self._num_put, self._is_closed = 0, False
        self._seconds = defaultdict[str, float](float)
        self._changed = asyncio.Condition()

    async def put(self, batch: pa.Table, size: int) -> None:
        """Add the next batch.

        Args:
            batch: The batch.
            size: Number of results that it takes until it is done.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._batches) < self._max_batches)
            if size:
                self._batches[self._num_put], self._num_left[self._num_put] = batch, size
            self._num_put += 1
            self._changed.notify_all()

    async def close(self) -> None:
        """Add no more."""
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    async def get(self, number: int) -> pa.Table | None:
        """Return a batch when it is there, an empty table if it is done, None behind the last one."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._is_closed or number < self._num_put)
            if number < self._num_put:
                return self._batches.get(number, pa.table({}))
            return None

    async def end(self, results: Mapping[int, int]) -> None:
        """Count results of batches by their numbers."""
        async with self._changed:
            for number, count in results.items():
                if number in self._num_left:
                    self._num_left[number] -= count
                    if self._num_left[number] <= 0:
                        del self._batches[number], self._num_left[number]
            self._changed.notify_all()

    async def add_seconds(self, stage: str, seconds: float) -> None:
        """Add time that a process of a stage was at work."""
        self._seconds[stage] += seconds

    async def seconds(self) -> dict[str, float]:
        """Return the time by stage."""
        return dict(self._seconds)
