"""Song Describer: captions of music tracks, several per track."""

from collections.abc import Iterator

from mats_ray.data.annotations.csv_records import table_records
from mats_ray.data.annotations.reader import AnnotationFile, Entry, Rejected, Row


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``song_describer.csv``."""
    for record in table_records(file, needed=("caption_id", "track_id", "caption")):
        if isinstance(record, Rejected):
            yield record
        elif not record[1]["caption"] or not record[1]["caption_id"]:
            yield Rejected(record[0], "empty caption or caption_id")
        else:
            key = f"{record[1]['track_id']}/{record[1]['caption_id']}"
            yield Row(record[0], key, text=record[1]["caption"])
