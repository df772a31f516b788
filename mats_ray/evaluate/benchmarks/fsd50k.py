"""FSD50K: 200 classes of sounds, several per clip, with the classes above them."""

from mats_ray.data.sources import fsd50k
from mats_ray.evaluate.benchmark import Benchmark
from mats_ray.evaluate.metrics.labels import mean_average_precision
from mats_ray.evaluate.samples import labelled
from mats_ray.tasks import INSTRUCTIONS, Task

BENCHMARK = Benchmark(
    name="fsd50k",
    title="FSD50K",
    paper="Fonseca et al., 2022, IEEE/ACM Transactions on Audio, Speech and Language Processing",
    license="CC BY 4.0",
    source="zenodo.org/records/4060432: FSD50K.ground_truth/eval.csv, FSD50K.eval_audio/",
    files=(r"eval\.csv",),
    other_files=(r"dev\.csv", r"vocabulary\.csv"),
    split="evaluation",
    size=10_231,
    read=labelled(fsd50k.read),
    prompt=INSTRUCTIONS[Task.CLASSIFICATION],
    upstream_prefix="[multi events]",
    score=mean_average_precision,
    results={
        "map": {
            "CLAP": 0.30, "Pengi": 0.47, "LTU†": 0.46, "GAMA†": 0.48, "SALMONN": 0.22,
            "Qwen-Audio-Chat": 0.40, "MATS-GPT2": 0.48, "MATS-LLaMA": 0.45, "MATS-Audio†": 0.43,
        }
    },
    note="Audio Flamingo's .70 in the paper's column is another measure and not repeated.",
)  # fmt: skip
