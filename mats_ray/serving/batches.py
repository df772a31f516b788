"""Batches that gather while the last one is computed, and in which no item can spoil its neighbours."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[ResultT]):
    """A result or the error that stood in its way."""

    result: ResultT | None = None
    error: Exception | None = None

    def unwrap(self) -> ResultT:
        """Return the result or raise the error."""
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


def isolate(
    work: Callable[[Sequence[ItemT]], Sequence[ResultT]], items: Sequence[ItemT]
) -> list[Outcome[ResultT]]:
    """Do a batch of work; if it fails, do its halves, down to the items that fail by themselves.

    Args:
        work: Returns one result per item, in order; what it returns does not depend on the batch.
        items: At least one.
    """
    try:
        return [Outcome(result) for result in work(items)]
    except Exception as error:  # noqa: BLE001  whatever it is, it belongs to one item, not to all
        if len(items) == 1:
            return [Outcome(error=error)]
    middle = len(items) // 2
    return isolate(work, items[:middle]) + isolate(work, items[middle:])


class Gathering:
    """Holds requests back while a batch is computed, so that they make up the next one together.

    ``@serve.batch`` (Ray 2.60) cuts what arrives into batches by time alone, also while none of them can be
    computed: under load it queues many small ones. Behind a gathering its waiting time can be nought: an idle
    replica starts at once, a busy one finds its next batch full.
    """

    def __init__(self) -> None:
        self._idle = asyncio.Event()
        self._idle.set()

    async def wait(self) -> None:
        """Let a request through once nothing is being computed."""
        await self._idle.wait()

    async def compute(
        self, work: Callable[[Sequence[ItemT]], Sequence[ResultT]], items: Sequence[ItemT]
    ) -> list[Outcome[ResultT]]:
        """Compute a batch on a thread, see ``isolate``; the event loop stays free for health checks."""
        self._idle.clear()
        try:
            return await asyncio.to_thread(isolate, work, items)
        finally:
            self._idle.set()
