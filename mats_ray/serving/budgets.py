"""What all requests in flight may hold together: bytes of memory, seconds of audio, windows."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from mats_ray.serving.errors import RequestError


@dataclass(eq=False)
class Budget:
    """An amount that the requests in flight share."""

    total: float
    """What all shares together may hold."""
    unit: str
    """In the plural, for refusals."""
    held: float = 0.0
    """By all shares now."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """Held while amounts change: decoding takes from threads."""

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """Open the share of one request; what it holds at its end is free again."""
        share = Share(self)
        try:
            yield share
        finally:
            share.close()


@dataclass(eq=False)
class Share:
    """What one request holds of a budget."""

    budget: Budget
    held: float = 0.0
    is_closed: bool = False

    def take(self, amount: float) -> None:
        """Hold more.

        Raises:
            RequestError: ``too_large``: more than there is in all; ``overloaded``: more than is free now.
        """
        budget = self.budget
        self.check_fits(self.held + amount)
        with budget.lock:
            if self.is_closed or budget.held + amount > budget.total:
                raise RequestError(
                    f"the requests in flight leave no room for {amount:.0f} {budget.unit} more",
                    code="overloaded",
                )
            self._change(amount)

    def check_fits(self, amount: float) -> None:
        """Say whether there could ever be room for so much.

        Raises:
            RequestError: ``too_large``: it is more than there is in all.
        """
        if amount > self.budget.total:
            raise RequestError(
                f"this request needs {amount:.0f} {self.budget.unit} or more, all requests together have "
                f"{self.budget.total:.0f}",
                code="too_large",
            )

    def give_back(self, amount: float) -> None:
        """Hold less, but never less than nothing."""
        with self.budget.lock:
            self._change(-min(amount, self.held))

    def close(self) -> None:
        """Give everything back, and take nothing any more: a thread may still work for the request."""
        with self.budget.lock:
            self.is_closed = True
            self._change(-self.held)

    def _change(self, amount: float) -> None:
        self.held += amount
        self.budget.held += amount


_memory: ContextVar[Share | None] = ContextVar("memory of the request being answered", default=None)


def current_memory() -> Share:
    """Return the memory share of the request being answered; outside of requests, one without limit."""
    return _memory.get() or Share(Budget(math.inf, "bytes of memory"))


@contextmanager
def memory_share(budget: Budget) -> Iterator[Share]:
    """Open a share that ``current_memory`` finds, in this task and in those it starts."""
    with budget.share() as share:
        token = _memory.set(share)
        try:
            yield share
        finally:
            _memory.reset(token)
