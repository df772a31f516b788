"""Song Describer: captions of music tracks, several per track."""

from collections.abc import Iterator

from mats_ray.data.annotations.csv_records import table_records
from mats_ray.data.annotations.reader import AnnotationFile, Entry, Rejected, Row


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``song_describer.csv``."""
    for record in table_records(file, needed=("caption_id", "caption")):
        if isinstance(record, Rejected):
            yield record
        elif not record[1]["caption"] or not record[1]["caption_id"]:
            yield Rejected(record[0], "empty caption or caption_id")
        else:
            yield Row(record[0], record[1]["caption_id"], text=record[1]["caption"])
