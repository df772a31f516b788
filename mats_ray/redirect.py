"""Where a process's own stdout and stderr go, for its C++ libraries and child processes as well.

``contextlib.redirect_stdout`` reaches what Python prints; here it is the file descriptors that change.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

STDOUT, STDERR = 1, 2


@contextmanager
def redirected(descriptors: Sequence[int], file: BinaryIO) -> Iterator[None]:
    """Send what is written to some descriptors to a file; afterwards they are what they were.

    Args:
        descriptors: ``STDOUT``, ``STDERR`` or both.
        file: Open for as long.
    """
    _flush()
    kept = [os.dup(number) for number in descriptors]
    for number in descriptors:
        os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        _flush()
        for number, original in zip(descriptors, kept, strict=True):
            os.dup2(original, number)
            os.close(original)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
