"""Progress of long work on stderr: done, rate, time left. Standard library only.

On a terminal the line is redrawn in place; in a log it is a new line at most every few seconds. Work that
runs at the same time shares the line of a terminal.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TextIO

TERMINAL_INTERVAL_SECONDS = 0.2
LOG_INTERVAL_SECONDS = 5.0


_active: list["Progress"] = []
_draw_lock = threading.Lock()
_stream: TextIO | None = None
_log_interval = LOG_INTERVAL_SECONDS


@contextlib.contextmanager
def shown_on(stream: TextIO, *, interval: float) -> Iterator[None]:
    """Draw progress on another stream than stderr, and leave no last lines there.

    Args:
        stream: A terminal, where a line is redrawn, or a log.
        interval: Least number of seconds between two lines in a log.
    """
    global _stream, _log_interval
    before = _stream, _log_interval
    _stream, _log_interval = stream, interval
    try:
        yield
    finally:
        _stream, _log_interval = before


class Progress:
    """Context manager around a counted piece of work: ``with Progress("train", total=600, unit="step")``."""

    def __init__(self, label: str, *, total: int | None, unit: str, stream: TextIO | None = None) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done, self.note = 0, ""
        self._is_passing = stream is None and _stream is not None
        self._stream = stream or _stream or sys.stderr
        self._interval = TERMINAL_INTERVAL_SECONDS if self._stream.isatty() else _log_interval
        self._started = self._drawn = time.monotonic()
        self._offset = 0

    def __enter__(self) -> "Progress":
        _active.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave a last line with the final count and the wall time."""
        _active.remove(self)
        if not self._is_passing:
            self._draw(final=True)
        elif self._stream.isatty():
            self._stream.write("\r\x1b[2K")

    def start_at(self, done: int) -> None:
        """Count from work an earlier run finished; it does not count towards the rate."""
        self.done, self._offset = self.done + done - self._offset, done

    def advance(self, count: int = 1, *, note: str = "") -> None:
        """Count finished units and redraw if the last line is old enough."""
        self.update(self.done + count, note=note)

    def update(self, done: int, *, note: str = "") -> None:
        """Set the number of finished units."""
        self.done, self.note = done, note or self.note
        if time.monotonic() - self._drawn >= self._interval:
            self._draw()

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the work."""
        return time.monotonic() - self._started

    def line(self) -> str:
        """Return the current line, e.g. ``train 120/600 steps  12.3 steps/s  0:39 left  loss 0.81``."""
        elapsed = max(self.elapsed, 1e-9)
        rate = (self.done - self._offset) / elapsed
        of = f"/{self.total}" if self.total is not None else ""
        left = ""
        if self.total is not None and rate > 0 and self.done < self.total:
            left = f"  {format_seconds((self.total - self.done) / rate)} left"
        note = f"  {self.note}" if self.note else ""
        speed = f"{rate:.3g} {self.unit}s/s  {format_seconds(elapsed)}"
        return f"{self.label} {self.done}{of} {self.unit}s  {speed}{left}{note}"

    def _draw(self, *, final: bool = False) -> None:
        self._drawn = time.monotonic()
        line, start, end = self.line(), "", "\n"
        if self._stream.isatty():
            start, end = "\r\x1b[2K", "\n" if final else ""
            if not final:
                line = " | ".join(one.line() for one in _active if one._stream is self._stream)
        with _draw_lock:
            self._stream.write(f"{start}{line}{end}")
            self._stream.flush()


def format_seconds(seconds: float) -> str:
    """Format seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
