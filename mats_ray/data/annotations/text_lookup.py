"""Texts by key, on disk: the text in place of a clip's audio is often in another file than the question.

A dictionary of every clip of OpenAQA would fill gigabytes; SQLite uses a temporary file.
"""

import contextlib
import os
import sqlite3
import tempfile
from typing import Any

from mats_ray.data.annotations.cell_values import text_or_missing
from mats_ray.data.annotations.reader import Rejected

_BATCH = 10_000


class TextLookup:
    """Any number of texts under any number of keys, in the order they came; a context manager."""

    def __init__(self) -> None:
        handle, self._path = tempfile.mkstemp(suffix=".sqlite", prefix="mats-lookup-")
        os.close(handle)
        self._base = sqlite3.connect(self._path)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-16384"):
            self._base.execute(f"PRAGMA {pragma}")
        self._base.execute("CREATE TABLE texts (key TEXT, text TEXT)")
        self._pending: list[tuple[str, str]] = []
        self._indexed = False

    def __enter__(self) -> "TextLookup":
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)  # noqa: PTH108

    def add(self, key: str, text: str) -> None:
        """Put a text under a key; all of them before the first ``get``."""
        assert not self._indexed, "a lookup is filled before it is read"
        self._pending.append((key, text))
        if len(self._pending) >= _BATCH:
            self._flush()

    def get(self, key: str) -> list[str]:
        """Return the texts of a key, first come first."""
        if not self._indexed:
            self._flush()
            self._base.execute("CREATE INDEX by_key ON texts (key)")
            self._indexed = True
        found = self._base.execute("SELECT text FROM texts WHERE key = ? ORDER BY rowid", (key,))
        return [text for (text,) in found]

    def _flush(self) -> None:
        self._base.executemany("INSERT INTO texts VALUES (?, ?)", self._pending)
        self._pending.clear()


def add_caption(captions: TextLookup, found: tuple[int, Any] | Rejected, *, clip: str) -> None:
    """Put a record of a companion file into a lookup; one without its clip's name or a caption adds nothing.

    Args:
        captions: The lookup.
        found: What ``jsonlist.json_lines`` gave.
        clip: Name of the field that names the clip.
    """
    if not isinstance(found, Rejected) and isinstance(found[1], dict):
        name, caption = text_or_missing(found[1].get(clip)), text_or_missing(found[1].get("caption"))
        if name and caption:
            captions.add(name, caption)
