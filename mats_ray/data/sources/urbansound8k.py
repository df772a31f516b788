"""UrbanSound8K: one class per slice. The last column is ``class``; some copies call it ``class_name``."""

from collections.abc import Iterator

from mats_ray.data.annotations.csv_records import table_records
from mats_ray.data.annotations.reader import AnnotationFile, Entry, Rejected, Row


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``metadata/UrbanSound8K.csv``."""
    for record in table_records(file, needed=("slice_file_name", "classID")):
        if isinstance(record, Rejected):
            yield record
            continue
        number, cells = record
        label = cells.get("class") or cells.get("class_name")
        if label and cells["slice_file_name"]:
            yield Row(number, cells["slice_file_name"], labels=(label,))
        else:
            yield Rejected(number, "no class or no slice_file_name")
