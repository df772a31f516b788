"""Limits on what all requests in flight hold together: bytes of memory, seconds of audio, windows."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from mats_ray.serving.errors import RequestError


@dataclass(eq=False)
class Budget:
    """An amount that requests in flight share."""

    total: float
    """Largest sum of all shares."""
    unit: str
    """In the plural, for error messages."""
    held: float = 0.0
    """Sum of all shares now."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """Guards the amounts: decoding changes them from threads."""

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """Open the share of one request; at the end of the block it is given back."""
        share = Share(self)
        try:
            yield share
        finally:
            share.close()


@dataclass(eq=False)
class Share:
    """The part of a budget that one request holds."""

    budget: Budget
    held: float = 0.0
    is_closed: bool = False

    def acquire(self, amount: float) -> None:
        """Hold more.

        Raises:
            RequestError: ``too_large``: more than the whole budget; ``overloaded``: more than is free now.
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
        """Check an amount against the whole budget.

        Raises:
            RequestError: ``too_large``: it is more.
        """
        if amount > self.budget.total:
            raise RequestError(
                f"this request needs {amount:.0f} {self.budget.unit} or more, all requests together have "
                f"{self.budget.total:.0f}",
                code="too_large",
            )

    def release(self, amount: float) -> None:
        """Hold less, but never less than nothing."""
        with self.budget.lock:
            self._change(-min(amount, self.held))

    def close(self) -> None:
        """Give everything back; threads that still work for the request acquire nothing more."""
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
    """Open a share that ``current_memory`` returns, in this task and in those it starts."""
    with budget.share() as share:
        token = _memory.set(share)
        try:
            yield share
        finally:
            _memory.reset(token)
