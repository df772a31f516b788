"""NSynth: single notes, labelled with the family of the instrument."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from mats_ray.data.annotations.cell_values import text_or_missing
from mats_ray.data.annotations.json_records import json_entries
from mats_ray.data.annotations.reader import AnnotationFile, Dropped, Rejected
from mats_ray.evaluate.benchmark import Benchmark, Entry, Sample
from mats_ray.evaluate.metrics.labels import label_accuracy
from mats_ray.evaluate.samples import OTHER_SPLIT
from mats_ray.tasks import INSTRUCTIONS, Task

_OTHER_FOLDERS = frozenset({"nsynth-train", "nsynth-valid"})
"""Every split has a file of the same name."""


def _read(file: AnnotationFile) -> Iterator[Entry]:
    is_other = PurePosixPath(file.path).parent.name in _OTHER_FOLDERS
    for found in json_entries(file):
        if isinstance(found, Rejected):
            yield found
        else:
            yield Dropped(found[0], OTHER_SPLIT) if is_other else _sample(found[0], *found[1])


def _sample(number: int, name: str, note: Any) -> Entry:
    values = note if isinstance(note, dict) else {}
    family, source = (text_or_missing(values.get(f"instrument_{key}_str")) for key in ("family", "source"))
    if not family:
        return Rejected(number, "no instrument_family_str")
    return Sample(id=name, audio=(name,), references=(family,), categories={"source": source})


BENCHMARK = Benchmark(
    name="nsynth",
    title="NSynth",
    paper="Engel et al., 2017, ICML",
    license="CC BY 4.0",
    source="magenta.tensorflow.org/datasets/nsynth: nsynth-test/examples.json, nsynth-test/audio/",
    files=(r"examples\.json",),
    split="test",
    size=4_096,
    read=_read,
    prompt=INSTRUCTIONS[Task.CLASSIFICATION],
    upstream_prefix="[instruction event]",
    score=label_accuracy,
    results={"accuracy": {"Qwen-Audio": 0.788}},
    note="Not in the paper; it is unknown whether the model compared had the training split.",
)
