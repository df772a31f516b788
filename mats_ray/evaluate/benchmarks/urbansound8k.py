"""UrbanSound8K: ten classes of city sounds, four seconds at most."""

from mats_ray.data.sources import urbansound8k
from mats_ray.evaluate.benchmark import Benchmark
from mats_ray.evaluate.metrics.labels import label_accuracy
from mats_ray.evaluate.samples import labelled
from mats_ray.tasks import INSTRUCTIONS, Task

BENCHMARK = Benchmark(
    name="urbansound8k",
    title="UrbanSound8K",
    paper="Salamon et al., 2014, ACM Multimedia",
    license="CC BY-NC 3.0",
    source="zenodo.org/records/1203745: metadata/UrbanSound8K.csv, audio/fold*/",
    files=(r"UrbanSound8K\.csv",),
    split="all ten folds",
    size=8_732,
    read=labelled(urbansound8k.read),
    prompt=INSTRUCTIONS[Task.CLASSIFICATION],
    upstream_prefix="[single event]",
    score=label_accuracy,
    results={
        "accuracy": {
            "CLAP": 0.73, "Pengi": 0.72, "Audio Flamingo": 0.75, "MATS-GPT2": 0.67, "MATS-LLaMA": 0.67,
            "MATS-Audio": 0.39,
        }
    },
)  # fmt: skip
