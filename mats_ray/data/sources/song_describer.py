"""Song Describer: captions of music tracks, several per track."""

from collections.abc import Iterator

from mats_ray.data.sources.rows import AnnotationFile, Entry, Rejected, Row
from mats_ray.data.sources.tables import table_records


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``song_describer.csv``."""
    for record in table_records(file, needed=("caption_id", "caption")):
        if isinstance(record, Rejected):
            yield record
        elif not record[1]["caption"] or not record[1]["caption_id"]:
            yield Rejected(record[0], "empty caption or caption_id")
        else:
            yield Row(record[0], record[1]["caption_id"], text=record[1]["caption"])
