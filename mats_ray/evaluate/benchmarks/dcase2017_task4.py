"""DCASE 2017 task 4: seventeen warning and vehicle sounds for smart cars, ten seconds each."""

from mats_ray.evaluate.benchmark import Benchmark
from mats_ray.evaluate.metrics.labels import label_accuracy
from mats_ray.evaluate.readers import dcase2017
from mats_ray.tasks import INSTRUCTIONS, Task

BENCHMARK = Benchmark(
    name="dcase2017_task4",
    title="DCASE 2017 task 4",
    paper="Mesaros et al., 2017, DCASE Workshop",
    license="CC BY 4.0",
    source="github.com/ankitshah009/"
    "Task-4-Large-scale-weakly-supervised-sound-event-detection-for-smart-cars: groundtruth_release/",
    files=(r"groundtruth_weak_label_evaluation_set\.csv", r"evaluation_set\.csv"),
    other_files=(
        r"groundtruth_(weak|strong)_label_(training|testing)_set\.csv",
        r"groundtruth_strong_label_evaluation_set\.csv",
        r"(training|testing)_set\.csv",
    ),
    split="evaluation set",
    size=1_103,
    read=dcase2017.read,
    prompt=INSTRUCTIONS[Task.CLASSIFICATION],
    upstream_prefix="[single event]",
    score=label_accuracy,
    results={
        "accuracy": {
            "CLAP": 0.30, "Pengi": 0.33, "LTU": 0.46, "GAMA": 0.38, "SALMONN": 0.18, "Qwen-Audio-Chat": 0.32,
            "MATS-GPT2": 0.43, "MATS-LLaMA": 0.43, "MATS-Audio†": 0.55,
        }
    },
    note="The paper names no split; its file is called dcase17_eval, and with one label per clip "
    "LTU's micro-F1 is accuracy.",
)  # fmt: skip
