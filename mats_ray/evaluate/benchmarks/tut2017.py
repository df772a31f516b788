"""TUT Acoustic Scenes 2017: fifteen places in Finland, ten seconds each."""

import re
from collections.abc import Iterator

from mats_ray.data.annotations.reader import AnnotationFile, Dropped
from mats_ray.data.sources import tut
from mats_ray.evaluate.benchmark import Benchmark, Entry, Sample
from mats_ray.evaluate.metrics.labels import label_accuracy
from mats_ray.evaluate.samples import OTHER_SPLIT, labelled
from mats_ray.tasks import INSTRUCTIONS, Task

_OF_DEVELOPMENT = re.compile(r"[a-z]\d+_\d+_\d+\.wav")
"""Names by place and time; those of the evaluation set are numbers. Both sets have a ``meta.txt``."""


def _read(file: AnnotationFile) -> Iterator[Entry]:
    for number, entry in enumerate(labelled(tut.read)(file), start=1):
        is_other = isinstance(entry, Sample) and _OF_DEVELOPMENT.fullmatch(entry.id)
        yield Dropped(number, OTHER_SPLIT) if is_other else entry


BENCHMARK = Benchmark(
    name="tut2017",
    title="TUT Acoustic Scenes 2017",
    paper="Mesaros et al., 2016, EUSIPCO",
    license="non-commercial",
    source="zenodo.org/records/1040168: TUT-acoustic-scenes-2017-evaluation, meta.txt or evaluation_setup/",
    files=(r"evaluate\.txt", r"meta\.txt"),
    other_files=(r"fold\d_(train|test|evaluate)\.txt", r"map\.txt", r"error\.txt", r"test\.txt"),
    split="evaluation set",
    size=1_620,
    read=_read,
    prompt=INSTRUCTIONS[Task.CLASSIFICATION],
    upstream_prefix="[scene event]",
    score=label_accuracy,
    results={
        "accuracy": {
            "CLAP": 0.30, "Pengi": 0.35, "LTU": 0.33, "GAMA": 0.22, "Qwen-Audio†": 0.65, "SALMONN": 0.08,
            "Qwen-Audio-Chat": 0.17, "MATS-GPT2": 0.49, "MATS-LLaMA": 0.47, "MATS-Audio†": 0.61,
        }
    },
    note="Clips of the development set are left out and counted: its meta.txt has the same name.",
)  # fmt: skip
