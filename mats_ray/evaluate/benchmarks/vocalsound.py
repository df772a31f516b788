"""VocalSound: six sounds of the human voice that are no speech."""

from mats_ray.data.sources import vocalsound
from mats_ray.evaluate.benchmark import Benchmark
from mats_ray.evaluate.metrics.labels import label_accuracy
from mats_ray.evaluate.samples import labelled
from mats_ray.tasks import INSTRUCTIONS, Task

BENCHMARK = Benchmark(
    name="vocalsound",
    title="VocalSound",
    paper="Gong et al., 2022, ICASSP",
    license="CC BY-SA 4.0",
    source="github.com/YuanGongND/vocalsound: datafiles/te.json",
    files=(r"te\.json",),
    other_files=(r"(tr|val|all)\.json", r"(te|val|tr)_.*\.json"),
    split="test",
    size=3_594,
    read=labelled(vocalsound.read),
    prompt=INSTRUCTIONS[Task.CLASSIFICATION],
    upstream_prefix="[vocal event]",
    score=label_accuracy,
    results={"accuracy": {"Qwen-Audio": 0.929, "Qwen2-Audio": 0.939}},
    note="Not in the paper; it is unknown whether the models compared had the training split.",
)
