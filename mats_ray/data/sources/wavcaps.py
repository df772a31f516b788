"""WavCaps: four JSON files of one shape. AudioSet's and FreeSound's overlap with test sets of others.

17.6 % of AudioCaps lies inside the AudioSet part and 89 % of Clotho inside the FreeSound part, so these two
are read only with the official blacklists (``data/json_files/blacklist/*.json``).
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath

from mats_ray.data.annotations.cell_values import text_or_missing
from mats_ray.data.annotations.json_records import json_items
from mats_ray.data.annotations.reader import AnnotationFile, Dropped, Entry, Reader, Rejected, Row
from mats_ray.errors import DataError

NO_BLACKLIST = "none"
"""In place of a path: none of these clips will be tested on."""


def reader(part: str | None) -> Reader:
    """Return the reader of one part; ``part`` is its name in the blacklists, ``None``: it has none."""
    return partial(_read, part=part)


def _read(file: AnnotationFile, *, part: str | None) -> Iterator[Entry]:
    forbidden = blacklist(file, part) if part else frozenset()
    for found in json_items(file, under="data"):
        if isinstance(found, Rejected):
            yield found
            continue
        number, item = found
        if not isinstance(item, dict) or not isinstance(item.get("id"), str | int) or "caption" not in item:
            yield Rejected(number, "no caption or no id")
        elif not text_or_missing(item.get("caption")):
            yield Rejected(number, "empty caption")
        elif clip_name(item["id"]) in forbidden:
            yield Dropped(number, "blacklist")
        else:
            yield Row(number, str(item["id"]), text=item["caption"])


def blacklist(file: AnnotationFile, part: str) -> frozenset[str]:
    """Union of the clips a part's companions ``blacklist`` name: at most 57,000, held in memory.

    Raises:
        DataError: None is given, or one is not of the published shape.
    """
    paths = file.require("blacklist", "WavCaps' blacklists (or 'none', if nothing it overlaps is tested)")
    names: set[str] = set()
    for path in paths:
        if path == NO_BLACKLIST:
            continue
        with file.companion(path).open() as stream:
            try:
                names.update(clip_name(one) for one in json.load(stream)[part])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path} is no blacklist of WavCaps ({part!r}: {error!r})") from None
    return frozenset(names)


def clip_name(clip: object) -> str:
    """Name a clip alike in data and blacklists: without extension."""
    name = str(clip)
    return PurePosixPath(name).stem if name.endswith((".wav", ".flac", ".mp3")) else name
