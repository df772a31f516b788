"""Paths of audio files and the version of their content."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mats_ray.errors import StorageError
from mats_ray.storage import is_remote, local_etag, stat

_ESCAPED = re.compile(r"\\x(5c|[89a-f][0-9a-f])")


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioObject:
    """One file or object."""

    path: str
    """Absolute path or URI."""
    size: int
    """Size in bytes; 0 where it is not known."""
    etag: str
    """Changes when the content does: the store's own, or made of size and modification time."""


def stat_audio(path: str) -> AudioObject:
    """Return one file or object with its size and etag; without an etag if it cannot be reached."""
    if not is_remote(path):
        return local_object(Path(local_path(path)))
    try:
        found = stat(path)
    except StorageError:  # the error comes when it is read
        found = None
    return AudioObject(path=path, size=found.size if found else 0, etag=found.etag if found else "")


def local_object(path: Path) -> AudioObject:
    """Return one local file; a broken link is a file without an etag."""
    name = path_text(str(path))
    try:
        status = path.stat()
        return AudioObject(path=name, size=status.st_size, etag=local_etag(status))
    except OSError:  # a broken link: its row has the error
        return AudioObject(path=name, size=0, etag="")


def path_text(path: str) -> str:
    """Write a local path as text ``local_path`` finds again: a byte that is not UTF-8 becomes its escape."""
    literal = _ESCAPED.sub(lambda found: f"\\x5c{found[0][1:]}", path)
    return literal.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def local_path(text: str) -> str:
    """Return the local path that ``path_text`` made a text of; any other path stays as it is."""
    if _ESCAPED.search(text):
        raw = _ESCAPED.sub(lambda found: os.fsdecode(bytes([int(found[1], 16)])), text)
        if os.path.lexists(raw):
            return raw
    return text
