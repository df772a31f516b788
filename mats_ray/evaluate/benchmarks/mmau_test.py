"""MMAU test: 9,000 questions whose answers its authors keep."""

from mats_ray.evaluate.benchmark import Benchmark, Submission
from mats_ray.evaluate.metrics.choices import substring_choice
from mats_ray.evaluate.readers.choices import MMAU_COLUMNS, reader

BENCHMARK = Benchmark(
    name="mmau_test",
    title="MMAU test",
    paper="Sakshi et al., 2025, ICLR",
    license="Apache-2.0",
    source="github.com/Sakshi113/MMAU: mmau-test.json; scored at huggingface.co/spaces/sonalkum/MMAU-Eval",
    files=(r"mmau-test\.json",),
    other_files=(r"mmau-test-mini.*\.json",),
    split="test, without its 1,000 questions of test-mini",
    size=9_000,
    read=reader(audio="audio_id", columns=MMAU_COLUMNS, answered=False),
    upstream_prefix="[open ended]",
    score=substring_choice,
    results={
        "accuracy": {
            "Qwen2-Audio-Instruct": 0.525, "Qwen-Audio-Chat": 0.419, "SALMONN": 0.328, "GAMA": 0.318,
            "MU-LLaMA": 0.307, "GAMA-IT": 0.290, "LTU-AS": 0.189, "LTU": 0.185, "Pengi": 0.042,
            "MATS-GPT2": 0.098, "MATS-LLaMA": 0.445, "MATS-Audio": 0.438,
        },
        "accuracy/sound": {
            "Qwen2-Audio-Instruct": 0.459, "Qwen-Audio-Chat": 0.567, "SALMONN": 0.403, "GAMA": 0.454,
            "MU-LLaMA": 0.448, "GAMA-IT": 0.432, "LTU-AS": 0.250, "LTU": 0.259, "Pengi": 0.080,
            "MATS-GPT2": 0.072, "MATS-LLaMA": 0.598, "MATS-Audio": 0.574,
        },
        "accuracy/music": {
            "Qwen2-Audio-Instruct": 0.533, "Qwen-Audio-Chat": 0.409, "SALMONN": 0.338, "GAMA": 0.308,
            "MU-LLaMA": 0.306, "GAMA-IT": 0.280, "LTU-AS": 0.105, "LTU": 0.128, "Pengi": 0.031,
            "MATS-GPT2": 0.117, "MATS-LLaMA": 0.429, "MATS-Audio": 0.415,
        },
    },
    submission=Submission(file="submission.json", id_key="id", answer_key="model_output"),
    note="Answers are not published: what is written is sent to the authors; the results are those of 2024.",
)  # fmt: skip
