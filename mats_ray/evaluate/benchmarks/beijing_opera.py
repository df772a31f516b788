"""Beijing Opera percussion: single strokes of four instruments."""

from mats_ray.data.sources.registry import SOURCES
from mats_ray.evaluate.benchmark import Benchmark
from mats_ray.evaluate.metrics.labels import label_accuracy
from mats_ray.evaluate.samples import file_name, labelled
from mats_ray.tasks import INSTRUCTIONS, Task

BENCHMARK = Benchmark(
    name="beijing_opera",
    title="Beijing Opera percussion",
    paper="Tian et al., 2014, ICASSP",
    license="CC BY-NC 3.0",
    source="zenodo.org/records/1285212",
    files=(),
    split="all strokes, from the names of the audio files",
    size=236,
    read=labelled(SOURCES["beijing_opera"].read, names=file_name),
    prompt=INSTRUCTIONS[Task.CLASSIFICATION],
    upstream_prefix="[instruction event]",
    score=label_accuracy,
    results={
        "accuracy": {
            "CLAP": 0.30, "Pengi": 0.62, "LTU": 0.70, "GAMA": 0.70, "SALMONN": 0.25, "Qwen-Audio-Chat": 0.51,
            "MATS-GPT2": 0.70, "MATS-LLaMA": 0.73, "MATS-Audio": 0.46,
        }
    },
    note="Labels are the English names that LTU uses, not those in the file names.",
)  # fmt: skip
