"""ESC-50: fifty classes of environmental sounds, five seconds each."""

from mats_ray.data.sources import esc50
from mats_ray.evaluate.benchmark import Benchmark
from mats_ray.evaluate.metrics.labels import label_accuracy
from mats_ray.evaluate.samples import labelled
from mats_ray.tasks import INSTRUCTIONS, Task

BENCHMARK = Benchmark(
    name="esc50",
    title="ESC-50",
    paper="Piczak, 2015, ACM Multimedia",
    license="CC BY-NC 3.0",
    source="github.com/karolpiczak/ESC-50: meta/esc50.csv, audio/",
    files=(r"esc50\.csv",),
    split="all five folds",
    size=2_000,
    read=labelled(esc50.read),
    prompt=INSTRUCTIONS[Task.CLASSIFICATION],
    upstream_prefix="[single event]",
    score=label_accuracy,
    results={
        "accuracy": {
            "CLAP": 0.83, "Pengi": 0.92, "LTU": 0.83, "LTU-AS": 0.81, "GAMA": 0.83, "SALMONN": 0.16,
            "Qwen-Audio-Chat": 0.72, "MATS-GPT2": 0.86, "MATS-LLaMA": 0.88, "MATS-Audio": 0.70,
        }
    },
    note="A file with fewer classes is scored among its own classes.",
)  # fmt: skip
