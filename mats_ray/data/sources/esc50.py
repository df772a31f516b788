"""ESC-50: one category per clip."""

from collections.abc import Iterator

from mats_ray.data.annotations.csv_records import table_records
from mats_ray.data.annotations.reader import AnnotationFile, Entry, Rejected, Row


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``meta/esc50.csv``."""
    for record in table_records(file, needed=("filename", "category")):
        if isinstance(record, Rejected):
            yield record
        elif not record[1]["category"] or not record[1]["filename"]:
            yield Rejected(record[0], "empty filename or category")
        else:
            yield Row(record[0], record[1]["filename"], labels=(record[1]["category"],))
