"""CREMA-D: twelve sentences spoken by 91 actors in six emotions."""

from mats_ray.data.sources.registry import SOURCES
from mats_ray.evaluate.benchmark import Benchmark
from mats_ray.evaluate.metrics.labels import label_accuracy
from mats_ray.evaluate.samples import file_name, labelled
from mats_ray.tasks import INSTRUCTIONS, Task

BENCHMARK = Benchmark(
    name="crema_d",
    title="CREMA-D",
    paper="Cao et al., 2014, IEEE Transactions on Affective Computing",
    license="ODbL 1.0",
    source="github.com/CheyneyComputerScience/CREMA-D: AudioWAV/",
    files=(),
    split="all clips, from the names of the audio files",
    size=7_442,
    read=labelled(SOURCES["crema_d"].read, names=file_name),
    prompt=INSTRUCTIONS[Task.CLASSIFICATION],
    upstream_prefix="[emotion event]",
    score=label_accuracy,
    note="Not in the paper; labels are what the actors meant, not what listeners heard.",
)
