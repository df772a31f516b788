"""JSON files whose one long list or mapping is read item by item: some have gigabytes.

What lies between items is skipped. An item that cannot be read, or holds a string that is not valid Unicode,
costs that item: reading continues where the next one seems to start.
"""

import io
import json
import re
from collections.abc import Iterator
from typing import Any

from mats_ray.data.annotations.reader import AnnotationFile, Rejected
from mats_ray.errors import DataError
from mats_ray.text import is_valid_unicode

MAX_ITEM_CHARACTERS = 1 << 20
"""Number of characters of an item before it counts as broken; the longest real ones have a few thousand."""

NOT_UTF8 = "not UTF-8"

_GAP = re.compile(r"[\s,]*")
_COLON = re.compile(r"\s*:\s*")
_NEXT_ITEM = re.compile(r"\}\s*,\s*(?=[{\"])")
_decode = json.JSONDecoder().raw_decode


def json_items(file: AnnotationFile, *, under: str | None = None) -> Iterator[tuple[int, Any] | Rejected]:
    """Yield (number from 1, item) of a JSON list, or of the list a mapping holds under a key.

    Raises:
        DataError: The file holds no such list.
    """
    opening = r"\s*\[" if under is None else rf"\s*\{{.*?{re.escape(json.dumps(under))}\s*:\s*\["
    return _scan(file, opening, what="list" if under is None else f"list {under!r}", pairs=False)


def json_entries(file: AnnotationFile) -> Iterator[tuple[int, tuple[str, Any]] | Rejected]:
    """Yield (number from 1, (key, value)) of one long mapping.

    Raises:
        DataError: The file holds no mapping.
    """
    return _scan(file, r"\s*\{", what="mapping", pairs=True)


def json_list_or_lines(file: AnnotationFile) -> Iterator[tuple[int, Any] | Rejected]:
    """Yield the items of a JSON list, or of a JSON Lines file, whichever the first character says it is."""
    first = next((line for line in file.lines() if line.strip()), "")
    return json_items(file) if first.lstrip().startswith("[") else json_lines(file)


def json_lines(file: AnnotationFile) -> Iterator[tuple[int, Any] | Rejected]:
    """Yield (line number, item) of a JSON Lines file."""
    for number, line in enumerate(file.lines(), start=1):
        if line.strip():
            try:
                yield _checked(number, json.loads(line))
            except (ValueError, RecursionError) as error:
                yield Rejected(number, f"not JSON: {error}")


def _checked(number: int, item: Any) -> tuple[int, Any] | Rejected:
    return (number, item) if is_valid_unicode(item) else Rejected(number, NOT_UTF8)


def _scan(file: AnnotationFile, opening: str, *, what: str, pairs: bool) -> Iterator[Any]:
    with file.open() as stream:
        buffer = _Buffer(io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape"))
        if not buffer.skip(re.compile(opening, re.DOTALL)):
            raise DataError(f"{file.path} holds no JSON {what}")
        number = 0
        while not buffer.at_end():
            number += 1
            if buffer.at("]") or buffer.at("}"):
                return
            try:
                yield _checked(number, buffer.read_item(pairs=pairs))
            except (ValueError, RecursionError) as error:
                yield Rejected(number, f"not JSON: {str(error).split(':', 1)[0]}")
                buffer.resynchronise()
        yield Rejected(number + 1, "the file ends inside its list (cut off?)")


class _Buffer:
    """The characters of the file that are in memory."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text, self._buffer, self._place, self._whole = text, "", 0, False
        self._fill()

    def skip(self, pattern: re.Pattern[str]) -> bool:
        """Skip the start of the file."""
        found = pattern.match(self._buffer)
        self._place = found.end() if found else 0
        return found is not None

    def at_end(self) -> bool:
        """Skip the gap between items; return whether the file ends there."""
        while True:
            self._place = self._gap(self._place)
            if self._place < len(self._buffer) or self._whole:
                return self._place >= len(self._buffer)
            self._fill()

    def at(self, closing: str) -> bool:
        """Return whether a character comes next."""
        return self._buffer.startswith(closing, self._place)

    def read_item(self, *, pairs: bool) -> Any:
        """Read one item, or one key and value.

        Raises:
            ValueError: It is broken.
        """
        while True:
            try:
                item, end = self._pair() if pairs else _decode(self._buffer, self._place)
            except (ValueError, RecursionError) as error:
                if self._whole or len(self._buffer) - self._place >= MAX_ITEM_CHARACTERS:
                    raise ValueError(str(error)) from None
                self._fill()
                continue
            self._place = end
            return item

    def resynchronise(self) -> None:
        """Skip to where the next item seems to start."""
        while True:
            if found := _NEXT_ITEM.search(self._buffer, self._place):
                self._place = found.end()
                return
            self._place = max(self._place, len(self._buffer) - 2)
            if self._whole:
                self._place = len(self._buffer)
                return
            self._fill()

    def _pair(self) -> tuple[tuple[str, Any], int]:
        key, end = _decode(self._buffer, self._place)
        colon = _COLON.match(self._buffer, end)
        if colon is None:
            raise ValueError("a key without value")
        value, end = _decode(self._buffer, colon.end())
        return (key, value), end

    def _gap(self, place: int) -> int:
        found = _GAP.match(self._buffer, place)
        assert found is not None
        return found.end()

    def _fill(self) -> None:
        more = self._text.read(MAX_ITEM_CHARACTERS)
        self._whole = len(more) < MAX_ITEM_CHARACTERS
        self._buffer, self._place = self._buffer[self._place :] + more, 0
