"""NSynth: one mapping of notes, each with its instrument family, source and qualities."""

from collections.abc import Iterator
from typing import Any

from mats_ray.data.sources.jsonlist import json_entries
from mats_ray.data.sources.rows import AnnotationFile, Entry, Rejected, Row


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``examples.json``: "acoustic guitar" from source and family, then the qualities."""
    for found in json_entries(file):
        if isinstance(found, Rejected):
            yield found
            continue
        number, (name, note) = found
        labels = _labels(note) if isinstance(note, dict) else None
        yield Row(number, name, labels=labels) if labels else Rejected(number, "no instrument_family_str")


def _labels(note: dict[str, Any]) -> tuple[str, ...] | None:
    family, origin = note.get("instrument_family_str"), note.get("instrument_source_str", "")
    if not isinstance(family, str) or not family:
        return None
    qualities = note.get("qualities_str") or []
    return (f"{origin} {family}".strip(), *(str(one) for one in qualities))
