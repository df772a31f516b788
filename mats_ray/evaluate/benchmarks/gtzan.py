"""GTZAN: ten genres of music, thirty seconds each."""

from mats_ray.data.sources.registry import SOURCES
from mats_ray.evaluate.benchmark import Benchmark
from mats_ray.evaluate.metrics.labels import label_accuracy
from mats_ray.evaluate.samples import file_name, labelled
from mats_ray.tasks import INSTRUCTIONS, Task

BENCHMARK = Benchmark(
    name="gtzan",
    title="GTZAN",
    paper="Tzanetakis and Cook, 2002, IEEE Transactions on Speech and Audio Processing",
    license="unknown",
    source="huggingface.co/datasets/marsyas/gtzan: genres/",
    files=(),
    split="all clips, from the names of the audio files",
    size=1_000,
    read=labelled(SOURCES["gtzan"].read, names=file_name),
    prompt=INSTRUCTIONS[Task.CLASSIFICATION],
    upstream_prefix="[music genres]",
    score=label_accuracy,
    results={
        "accuracy": {
            "CLAP": 0.25, "Pengi": 0.35, "LTU-AS": 0.50, "GAMA": 0.14, "Audio Flamingo": 0.68,
            "SALMONN": 0.10, "Qwen-Audio-Chat": 0.42, "MATS-GPT2": 0.58, "MATS-LLaMA": 0.63,
            "MATS-Audio": 0.29,
        }
    },
    note="The paper names no split; jazz.00054.wav is damaged as published.",
)  # fmt: skip
