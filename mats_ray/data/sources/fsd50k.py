"""FSD50K: labels joined by commas, ancestors included; ``dev.csv`` has a column for the split."""

from collections.abc import Iterator

from mats_ray.data.annotations.csv_records import table_records
from mats_ray.data.annotations.reader import AnnotationFile, Entry, Rejected, Row


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``dev.csv`` or ``eval.csv``, which has no split column."""
    for record in table_records(file, needed=("fname", "labels")):
        if isinstance(record, Rejected):
            yield record
        elif not record[1]["fname"] or not record[1]["labels"]:
            yield Rejected(record[0], "empty fname or labels")
        else:
            cells = record[1]
            labels = tuple(cells["labels"].split(","))
            yield Row(record[0], cells["fname"], labels=labels, split=cells.get("split", ""))
