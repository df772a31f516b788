"""TUT acoustic scenes 2017: header-less tables of audio file, scene and place of recording."""

from collections.abc import Iterator

from mats_ray.data.annotations.csv_records import table_records
from mats_ray.data.annotations.reader import AnnotationFile, Entry, Rejected, Row


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``meta.txt``, or ``evaluation_setup/fold*_{train,evaluate}.txt``, which lack the place."""
    names = ("file", "scene", "place")
    for record in table_records(file, names=names, delimiter="\t", quoted=False):
        if isinstance(record, Rejected):
            yield record
        elif not record[1]["scene"]:
            yield Rejected(record[0], "no scene")
        else:
            name = record[1]["file"].rpartition("/")[2]
            yield Row(record[0], name, labels=(record[1]["scene"],))
