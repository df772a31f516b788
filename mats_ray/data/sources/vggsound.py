"""VGGSound: header-less; label names contain commas and are quoted then. Two files, two formats."""

from collections.abc import Iterator

from mats_ray.data.annotations.csv_records import table_records
from mats_ray.data.annotations.reader import AnnotationFile, Entry, Rejected, Row


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``vggsound.csv`` (id, start, label, split), or ``test.csv`` and its like (file, label)."""
    # the label of the short format stands where the long one has its start
    for record in table_records(file, names=("clip", "start", "label", "split")):
        if isinstance(record, Rejected):
            yield record
            continue
        number, cells = record
        if cells["split"] in {"train", "test"} and cells["clip"] and cells["label"]:
            key = f"{cells['clip']}_{int(cells['start'] or 0):06d}" if cells["start"].isdigit() else ""
            yield (
                Row(number, key, labels=(cells["label"],), split=cells["split"])
                if key
                else Rejected(number, f"start {cells['start']!r} is no number")
            )
        elif cells["clip"].endswith(".mp4") and cells["start"] and not cells["label"]:
            yield Row(number, cells["clip"].removesuffix(".mp4"), labels=(cells["start"],))
        else:
            yield Rejected(number, "neither id, start, label, split nor file, label")
