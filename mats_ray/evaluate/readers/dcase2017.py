"""Clips of DCASE 2017 task 4, in both of its formats, with the labels of a clip together.

A label may contain a comma. In the tables of weak labels it stands alone, one row per label, and the rows of
a clip are apart. The lists of the sets join labels by commas; there the machine ids are read.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

from mats_ray.data.annotations.csv_records import table_records
from mats_ray.data.annotations.reader import AnnotationFile, Rejected, Row
from mats_ray.data.sources.audioset import labelled
from mats_ray.data.sources.dcase2017 import CLASSES
from mats_ray.evaluate.benchmark import Entry, Sample

_LABELS = frozenset(CLASSES.values())


def read(file: AnnotationFile) -> Iterator[Entry]:
    """Read ``groundtruth_weak_label_*_set.csv``, which has tabs, or ``*_set.csv``; about a thousand clips."""
    clips = dict[str, list[str]]()
    for entry in _weak_labels(file) if "\t" in next(file.lines(), "") else _listed_clips(file):
        if isinstance(entry, Rejected):
            yield entry
        else:
            labels = clips.setdefault(entry[0], [])
            labels += [label for label in entry[1] if label not in labels]
    for name, labels in clips.items():
        yield Sample(id=name, audio=(f"{name}.wav", f"Y{name}.wav"), references=tuple(labels))


def _weak_labels(file: AnnotationFile) -> Iterator[tuple[str, tuple[str, ...]] | Rejected]:
    for record in table_records(
        file, names=("file", "onset", "offset", "label"), delimiter="\t", quoted=False
    ):
        if isinstance(record, Rejected):
            yield record
        elif record[1]["label"] not in _LABELS:
            yield Rejected(record[0], f"{record[1]['label']!r} is no class of the task")
        else:
            yield _clip(record[1]["file"]), (record[1]["label"],)


def _listed_clips(file: AnnotationFile) -> Iterator[tuple[str, tuple[str, ...]] | Rejected]:
    for record in table_records(file, names=("video", "start", "end", "labels", "mids")):
        if isinstance(record, Rejected):
            yield record
            continue
        number, cells = record
        name = f"{cells['video']}_{cells['start']}_{cells['end']}"
        entry = labelled(number, name, cells["mids"].split(","), CLASSES)
        if isinstance(entry, Row):
            yield entry.key, entry.labels
        else:
            yield Rejected(number, entry.reason)


def _clip(name: str) -> str:
    """Name a clip as the lists do: without folder and extension."""
    return PurePosixPath(name).name.removesuffix(".wav")
