"""NSynth: one mapping of notes, each with its instrument family, source and qualities."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from mats_ray.data.annotations.cell_values import split_of_folders, text_or_missing
from mats_ray.data.annotations.json_records import json_entries
from mats_ray.data.annotations.reader import AnnotationFile, Entry, Rejected, Row


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``examples.json``: "acoustic guitar" from source and family, then the qualities."""
    split = split_of_folders(f"{PurePosixPath(file.path).parent.name}/")  # nsynth-test/examples.json
    for found in json_entries(file):
        if isinstance(found, Rejected):
            yield found
            continue
        number, (name, note) = found
        labels = _labels(note) if isinstance(note, dict) else None
        yield (
            Row(number, name, labels=labels, split=split)
            if labels
            else Rejected(number, "no instrument_family_str")
        )


def _labels(note: dict[str, Any]) -> tuple[str, ...] | None:
    family, origin = note.get("instrument_family_str"), note.get("instrument_source_str", "")
    qualities = note.get("qualities_str") or []
    if not isinstance(qualities, list) or not all(map(text_or_missing, [family, *qualities])):
        return None
    return (f"{text_or_missing(origin)} {family}".strip(), *qualities)
