"""What a demo shows on the terminal, and a file for all else.

Libraries, child processes and C++ write to the process's own stdout and stderr. During a demo these are a
log file; lines meant for a reader go to the terminal by another way, with the time since the start.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from mats_ray import progress
from mats_ray.progress import format_seconds
from mats_ray.redirect import STDERR, STDOUT, redirected

LOG_INTERVAL_SECONDS = 20.0
"""Between two lines of progress where stderr is no terminal."""


class Terminal:
    """Lines for the reader."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self._started = stream, time.monotonic()

    def line(self, text: str) -> None:
        """Print a line with the time since the start."""
        self.stream.write(f"{format_seconds(time.monotonic() - self._started):>5}  {text}\n")
        self.stream.flush()


@contextlib.contextmanager
def output_to(log: Path) -> Iterator[Terminal]:
    """Send what this process and its children print to a file, which grows; yields the way to the terminal.

    Args:
        log: Its folder exists.
    """
    real = sys.stderr.fileno() == STDERR if _has_file(sys.stderr) else False
    sys.stderr.flush()
    stream = os.fdopen(os.dup(STDERR), "w", encoding="utf-8", errors="replace") if real else sys.stderr
    try:
        with (
            log.open("ab", buffering=0) as file,
            redirected((STDOUT, STDERR), file),
            open(STDOUT, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False) as printed,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            progress.shown_on(stream, interval=LOG_INTERVAL_SECONDS),
        ):
            yield Terminal(stream)
    finally:
        if real:
            stream.close()


def _has_file(stream: TextIO) -> bool:
    try:
        stream.fileno()
    except (OSError, AttributeError):
        return False
    return True
