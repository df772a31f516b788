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
            yield Row(record[0], _key(record[1], file.split), text=record[1]["caption"])


def _key(cells: dict[str, str], split: str) -> str:
    """Caption's id, behind its clip where clips have five captions: validation and test."""
    clip = "_".join(cells.get(name, "") for name in ("youtube_id", "start_time"))
    return cells["audiocap_id"] if split == "train" else f"{clip}/{cells['audiocap_id']}"
