"""A batch in which one bad item cannot spoil its neighbours' answers."""

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
