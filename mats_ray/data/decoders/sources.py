"""Where encoded sound comes from: a regular file, or bytes in memory. Nothing else is ever opened."""

import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mats_ray.errors import AudioError


@contextmanager
def opened(source: str | Path | bytes | BinaryIO, name: str, *, max_bytes: int) -> Iterator[BinaryIO]:
    """Give the source as a stream that can seek; of a stream no more than one byte too many is read.

    Raises:
        AudioError: Codes ``not_found`` (absent, a folder), ``read_failed`` (forbidden, a disk error).
    """
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, str | Path):
        with _regular_file(Path(source), name) as file:
            yield file
    else:
        with readable(name):
            held = source.read(max_bytes + 1)
        yield io.BytesIO(held)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Tell what the operating system says as an AudioError."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError(f"no audio file {name}", code="not_found") from None
    except OSError as error:
        raise AudioError(f"{name} cannot be read: {error.strerror or error}", code="read_failed") from error


def _regular_file(path: Path, name: str) -> BinaryIO:
    with readable(name):
        # looked at before it is opened: opening a pipe would wait for its writer
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise AudioError(f"{name} is {kind}, not an audio file", code="not_found")
        return path.open("rb")
