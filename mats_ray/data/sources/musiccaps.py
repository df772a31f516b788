"""MusicCaps: long captions, some with line breaks, and aspects as Python list literals."""

from collections.abc import Iterator

from mats_ray.data.annotations.cell_values import boolean, string_list
from mats_ray.data.annotations.csv_records import Record, table_records
from mats_ray.data.annotations.reader import AnnotationFile, Entry, Rejected, Row

_COLUMNS = ("ytid", "start_s", "aspect_list", "caption", "is_audioset_eval")


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read the captions of ``musiccaps-public.csv``; AudioSet's evaluation clips are the test split."""
    for record in table_records(file, needed=_COLUMNS):
        if isinstance(record, Rejected):
            yield record
        elif not record[1]["caption"]:
            yield Rejected(record[0], "empty caption")
        else:
            yield _row(record, text=record[1]["caption"])


def read_aspects(file: AnnotationFile) -> Iterator[Entry]:
    """Read the aspects of the same file, as labels."""
    for record in table_records(file, needed=_COLUMNS):
        if isinstance(record, Rejected):
            yield record
        elif (aspects := string_list(record[1]["aspect_list"])) is None:
            yield Rejected(record[0], "aspect_list is not a list of strings")
        else:
            yield _row(record, labels=aspects)


def _row(record: Record, *, text: str = "", labels: tuple[str, ...] = ()) -> Entry:
    number, cells = record
    is_test = boolean(cells["is_audioset_eval"])
    if is_test is None:
        return Rejected(number, f"is_audioset_eval is neither true nor false: {cells['is_audioset_eval']!r}")
    key = f"{cells['ytid']}_{cells['start_s']}" if cells["ytid"] and cells["start_s"] else ""
    return Row(number, key, text=text, labels=labels, split="test" if is_test else "train")
