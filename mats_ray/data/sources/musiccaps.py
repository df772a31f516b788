"""MusicCaps: long captions, some with line breaks, and aspects as Python list literals."""

import ast
from collections.abc import Iterator

from mats_ray.data.sources.rows import AnnotationFile, Entry, Rejected, Row
from mats_ray.data.sources.tables import Record, table_records

_COLUMNS = ("ytid", "start_s", "aspect_list", "caption", "is_audioset_eval")


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read the captions of ``musiccaps-public.csv``; AudioSet's evaluation clips are the test split."""
    for record in table_records(file, needed=_COLUMNS):
        if isinstance(record, Rejected):
            yield record
        elif not record[1]["caption"]:
            yield Rejected(record[0], "empty caption")
        else:
            yield Row(record[0], _key(record), text=record[1]["caption"], split=_split(record))


def read_aspects(file: AnnotationFile) -> Iterator[Entry]:
    """Read the aspects of the same file, as labels."""
    for record in table_records(file, needed=_COLUMNS):
        if isinstance(record, Rejected):
            yield record
            continue
        aspects = _aspects(record[1]["aspect_list"])
        if aspects is None:
            yield Rejected(record[0], "aspect_list is no list of strings")
        else:
            yield Row(record[0], _key(record), labels=aspects, split=_split(record))


def _key(record: Record) -> str:
    return f"{record[1]['ytid']}_{record[1]['start_s']}"


def _split(record: Record) -> str:
    return "test" if record[1]["is_audioset_eval"] == "True" else "train"


def _aspects(literal: str) -> tuple[str, ...] | None:
    try:
        found = ast.literal_eval(literal)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        return None
    return tuple(found)
