"""Nothing may hang in silence: a thread that knows which stage a worker is in, and since when."""

import threading
import time
from collections.abc import Callable


class Watchdog:
    """Context manager; says once, through ``on_stall``, that a stage has taken longer than allowed.

    Args:
        seconds: A stage may take.
        who: Of the worker, for the message.
        on_stall: Called in the watchdog's own thread: the worker's main thread is what is stuck.
        clock: Seconds; tests bring their own.
    """

    def __init__(
        self,
        seconds: float,
        *,
        who: str,
        on_stall: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds, self._who, self._on_stall, self._clock = seconds, who, on_stall, clock
        self._stage, self._step, self._since = "starting", 0, clock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def enter(self, stage: str, step: int) -> None:
        """Begin a stage: the clock starts again."""
        self._stage, self._step, self._since = stage, step, self._clock()

    def stalled(self) -> str | None:
        """Return what is wrong, if the current stage has taken too long."""
        if self._clock() - self._since < self._seconds:
            return None
        return (
            f"{self._who} is stuck in step {self._step}: {self._stage} took longer than "
            f"train.stall_seconds={self._seconds:g}"
        )

    def _watch(self) -> None:
        while not self._stop.wait(min(1.0, self._seconds / 10)):
            if message := self.stalled():
                self._on_stall(message)
                return
