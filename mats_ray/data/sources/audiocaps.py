"""AudioCaps: v1, 2.0 and the corrected v1, one format. Ids may start with ``-``; lines end in CRLF."""

from collections.abc import Iterator

from mats_ray.data.annotations.csv_records import table_records
from mats_ray.data.annotations.reader import AnnotationFile, Entry, Rejected, Row


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``audiocap_id,youtube_id,start_time,caption``."""
    for record in table_records(file, needed=("audiocap_id", "caption")):
        if isinstance(record, Rejected):
            yield record
        elif not record[1]["audiocap_id"]:
            yield Rejected(record[0], "empty audiocap_id")
        elif not record[1]["caption"]:
            yield Rejected(record[0], "empty caption")
        else:
            yield Row(record[0], record[1]["audiocap_id"], text=record[1]["caption"])
