"""VGGSound: 309 classes of sounds in YouTube videos, ten seconds each."""

from mats_ray.data.sources import vggsound
from mats_ray.evaluate.benchmark import Benchmark
from mats_ray.evaluate.metrics.labels import label_accuracy
from mats_ray.evaluate.readers.youtube import clip_names
from mats_ray.evaluate.samples import labelled
from mats_ray.tasks import INSTRUCTIONS, Task


def _names(key: str) -> tuple[str, ...]:
    """Name the audio of ``<id>_<start>``; the id alone is no name, some videos have two clips."""
    video, _, start = key.rpartition("_")
    return clip_names(video, int(start), int(start) + 10) if start.isdecimal() else (key,)


BENCHMARK = Benchmark(
    name="vggsound",
    title="VGGSound",
    paper="Chen et al., 2020, ICASSP",
    license="CC BY 4.0",
    source="github.com/hche11/VGGSound: data/test.csv; www.robots.ox.ac.uk/~vgg/data/vggsound: vggsound.csv",
    files=(r"test\.csv", r"vggsound\.csv"),
    other_files=(r"train\.csv", r"stat\.csv"),
    split="test",
    size=15_446,
    read=labelled(vggsound.read, split="test", names=_names),
    prompt=INSTRUCTIONS[Task.CLASSIFICATION],
    upstream_prefix="[single event]",
    score=label_accuracy,
    results={
        "accuracy": {
            "LTU†": 0.50, "GAMA†": 0.52, "SALMONN": 0.23, "Qwen-Audio-Chat": 0.18, "MATS-GPT2": 0.29,
            "MATS-LLaMA": 0.29, "MATS-Audio†": 0.42,
        }
    },
    note="Of vggsound.csv, the clips of its split test; test.csv is the list its authors evaluate.",
)  # fmt: skip
