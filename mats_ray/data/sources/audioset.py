"""AudioSet, weak and strong: labels are machine ids, their names are in a file beside."""

import json
import sys
from collections.abc import Iterator

from mats_ray.data.annotations.csv_records import table_records
from mats_ray.data.annotations.reader import AnnotationFile, Entry, Rejected, Row
from mats_ray.errors import DataError

_WEAK = ("ytid", "start", "end", "mids")
_STRONG = ("segment_id", "start_time_seconds", "end_time_seconds", "label")


def read_weak(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``*_segments.csv``: three comment lines, a space after each comma."""
    names = names_by_id(file)
    for record in table_records(file, names=_WEAK, space_after_comma=True, comment="#"):
        if isinstance(record, Rejected):
            yield record
            continue
        number, cells = record
        yield labelled(number, f"{cells['ytid']}_{cells['start']}", cells["mids"].split(","), names)


def read_strong(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``audioset_*_strong.tsv``: one line per event, a row per segment with all of its events.

    The machine ids of the segments, some 100,000, are held in memory: the lines of one may stand apart.
    """
    names, segments = names_by_id(file), dict[str, tuple[int, list[str]]]()
    for record in table_records(file, needed=_STRONG, delimiter="\t", quoted=False):
        if isinstance(record, Rejected):
            yield record
            continue
        number, cells = record
        segments.setdefault(cells["segment_id"], (number, []))[1].append(sys.intern(cells["label"]))
    for segment, (number, mids) in segments.items():
        yield labelled(number, segment, mids, names)


def labelled(number: int, key: str, mids: list[str], names: dict[str, str]) -> Entry:
    """Make a row of machine ids, each once, in their order."""
    unknown = [mid for mid in mids if mid not in names]
    if unknown:
        return Rejected(number, f"unknown label {unknown[0]!r}" if unknown[0] else "no labels")
    return Row(number, key, labels=tuple(dict.fromkeys(names[mid] for mid in mids)))


def names_by_id(file: AnnotationFile) -> dict[str, str]:
    """Read AudioSet's names from the companion ``names``: 527 to 632 of them.

    It may be ``class_labels_indices.csv``, the headerless ``mid_to_display_name.tsv`` or ``ontology.json``.

    Raises:
        DataError: It is missing or none of these.
    """
    what = "AudioSet's label names (class_labels_indices.csv, mid_to_display_name.tsv or ontology.json)"
    names: dict[str, str] = {}
    for path in file.require("names", what):
        names |= _names(file.companion(path))
    return names


def _names(file: AnnotationFile) -> dict[str, str]:
    if file.name.endswith(".json"):
        with file.open() as stream:
            try:
                return {one["id"]: one["name"] for one in json.load(stream)}
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{file.path} is not AudioSet's ontology: {error!r}") from None
    if file.name.endswith(".tsv"):
        records = table_records(file, names=("mid", "display_name"), delimiter="\t", quoted=False)
    else:
        records = table_records(file, needed=("mid", "display_name"))
    return {one[1]["mid"]: one[1]["display_name"] for one in records if not isinstance(one, Rejected)}
