"""A thread that reports a worker whose current stage takes longer than allowed."""

import threading
import time
from collections.abc import Callable


class Watchdog:
    """Context manager; calls ``on_stall`` once, with a message, when a stage takes too long.

    Args:
        seconds: Longest duration of a stage.
        worker: Name of the worker, for the message.
        on_stall: Called in the watchdog's thread, because the main thread is the one that is stuck.
        clock: Monotonic seconds; tests replace it.
    """

    def __init__(
        self,
        seconds: float,
        *,
        worker: str,
        on_stall: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds, self._worker, self._on_stall, self._clock = seconds, worker, on_stall, clock
        self._stage, self._step, self._since = "starting", 0, clock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def enter_stage(self, stage: str, step: int) -> None:
        """Start a stage and restart the clock."""
        self._stage, self._step, self._since = stage, step, self._clock()

    def stalled(self) -> str | None:
        """Return the message, if the current stage has lasted too long."""
        if self._clock() - self._since < self._seconds:
            return None
        return (
            f"{self._worker} is stuck in step {self._step}: {self._stage} took longer than "
            f"train.stall_seconds={self._seconds:g}"
        )

    def _watch(self) -> None:
        while not self._stop.wait(min(1.0, self._seconds / 10)):
            if message := self.stalled():
                self._on_stall(message)
                return
