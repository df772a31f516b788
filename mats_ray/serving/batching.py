"""Dynamic batching on a thread: a batch gathers while the last one is computed; items fail one by one."""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from mats_ray.errors import EngineError

logger = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[ResultT]):
    """A result or an error."""

    result: ResultT | None = None
    error: BaseException | None = None

    def unwrap(self) -> ResultT:
        """Return the result or raise the error."""
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


def isolate(
    work: Callable[[Sequence[ItemT]], Sequence[ResultT]], items: Sequence[ItemT]
) -> list[Outcome[ResultT]]:
    """Compute a batch; if that fails, its halves, down to the items that fail by themselves.

    Args:
        work: Returns one result per item, in order; results do not depend on the batch.
        items: At least one.
    """
    try:
        return [Outcome(result) for result in work(items)]
    except Exception as error:  # noqa: BLE001  any error may be of one item, not of all
        if len(items) == 1:
            return [Outcome(error=error)]
    middle = len(items) // 2
    return isolate(work, items[:middle]) + isolate(work, items[middle:])


@dataclass(frozen=True, eq=False, slots=True)
class _Entry(Generic[ItemT, ResultT]):
    item: ItemT
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[ResultT]"

    def settle(self, outcome: Outcome[ResultT]) -> None:
        """Pass the outcome to the caller's event loop, unless that has been closed."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(_settle, self.future, outcome)


class Abandoned(Exception):  # noqa: N818  no error: no caller is left to get it
    """All callers of the batch have been cancelled."""


class BatchThread(Generic[ItemT, ResultT]):
    """A thread that computes batches: an idle one starts at once, a busy one finds its next batch gathered.

    An error of the work belongs to its items. If anything else ends the thread (``SystemExit``, a fault of
    this class), every open item fails with ``EngineError``, and ``check_health`` from then on.

    ``@serve.batch`` (Ray 2.60) cuts batches by time alone, also while none can be computed: under load it
    queues many small ones. It also costs milliseconds (benchmarks/serving.md).

    Args:
        work: One result per item, in order; runs on the thread.
        max_items: Largest number of items in a batch.
        max_size: Largest sum of sizes in a batch; an item that is larger is a batch of its own.
        size_of: Returns the size of an item.
        wait_seconds: Time an idle thread waits for further items.
    """

    def __init__(
        self,
        work: Callable[[Sequence[ItemT]], Sequence[ResultT]],
        *,
        max_items: int,
        max_size: float = math.inf,
        size_of: Callable[[ItemT], float] = lambda _: 1.0,
        wait_seconds: float = 0.0,
    ) -> None:
        self._work, self._max_items, self._wait_seconds = work, max_items, wait_seconds
        self._max_size, self._size_of = max_size, size_of
        self._waiting: deque[_Entry[ItemT, ResultT]] = deque()
        self._computed: list[_Entry[ItemT, ResultT]] = []
        self._changed = threading.Condition()
        self._stopped: str | None = None
        threading.Thread(target=self._run, name="batches", daemon=True).start()

    async def do(self, item: ItemT) -> ResultT:
        """Compute one item; not if the caller is cancelled before its batch starts.

        Raises:
            EngineError: The thread has stopped.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultT] = loop.create_future()
        with self._changed:
            self.check_health()
            self._waiting.append(_Entry(item, loop, future))
            self._changed.notify()
        return await future

    def raise_if_abandoned(self) -> None:
        """Stop a batch without callers; to be called by long work between its steps.

        Raises:
            Abandoned: All callers of the batch being computed have been cancelled.
        """
        if all(entry.future.cancelled() for entry in self._computed):
            raise Abandoned

    def check_health(self) -> None:
        """Raise EngineError if the thread has stopped."""
        if self._stopped is not None:
            raise EngineError(self._stopped)

    def _run(self) -> None:
        try:
            while True:
                self._compute(self._gather())
        except BaseException as error:
            logger.exception("the batch thread has stopped")
            self._stop(f"the batch thread has stopped: {type(error).__name__}: {error}")

    def _compute(self, batch: "list[_Entry[ItemT, ResultT]]") -> None:
        self._computed = batch
        outcomes = isolate(self._work, [entry.item for entry in batch]) if batch else []
        for entry, outcome in zip(batch, outcomes, strict=True):
            entry.settle(outcome)
        self._computed = []  # an idle thread keeps no items alive

    def _stop(self, reason: str) -> None:
        with self._changed:
            self._stopped = reason
            open_entries = [(entry, True) for entry in self._computed]
            open_entries += [(entry, False) for entry in self._waiting]
            self._computed = []
            self._waiting.clear()
        for entry, in_flight in open_entries:
            entry.settle(Outcome(error=EngineError(reason, in_flight=in_flight)))

    def _gather(self) -> "list[_Entry[ItemT, ResultT]]":
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            until = time.monotonic() + self._wait_seconds
            while len(self._waiting) < self._max_items and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._next()

    def _next(self) -> "list[_Entry[ItemT, ResultT]]":
        batch: list[_Entry[ItemT, ResultT]] = []
        size = 0.0
        while self._waiting and len(batch) < self._max_items:
            entry = self._waiting[0]
            if not entry.future.cancelled():
                size += self._size_of(entry.item)
                if batch and size > self._max_size:
                    break
                batch.append(entry)
            self._waiting.popleft()
        return batch


def _settle(future: "asyncio.Future[ResultT]", outcome: Outcome[ResultT]) -> None:
    if future.done():  # its caller was cancelled
        return
    if outcome.error is not None:
        future.set_exception(outcome.error)
    else:
        future.set_result(outcome.unwrap())
