"""VocalSound: the class is in the file name, ``f0003_0_throatclearing.wav``."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from mats_ray.data.annotations.json_records import json_items
from mats_ray.data.annotations.reader import AnnotationFile, Entry, Rejected, Row

CLASSES = {
    "laughter": "laughter",
    "sigh": "sigh",
    "cough": "cough",
    "throatclearing": "throat clearing",
    "sneeze": "sneeze",
    "sniff": "sniff",
}


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``datafiles/{tr,val,te}.json``."""
    for found in json_items(file, under="data"):
        if isinstance(found, Rejected):
            yield found
            continue
        number, item = found
        name = PurePosixPath(str(item.get("wav", "") if isinstance(item, dict) else "")).name
        label = CLASSES.get(name.partition(".")[0].rpartition("_")[2])
        if label:
            yield Row(number, name, labels=(label,))
        else:
            yield Rejected(number, f"no class of VocalSound in the file name {name!r}")
