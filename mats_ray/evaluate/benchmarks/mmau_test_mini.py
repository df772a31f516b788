"""MMAU test-mini as the paper had it, in 2024: questions on sound, music and speech, with choices."""

from mats_ray.evaluate.benchmark import Benchmark, Submission
from mats_ray.evaluate.metrics.choices import substring_choice
from mats_ray.evaluate.readers.choices import MMAU_COLUMNS, reader

BENCHMARK = Benchmark(
    name="mmau_test_mini",
    title="MMAU test-mini, 2024",
    paper="Sakshi et al., 2025, ICLR",
    license="Apache-2.0",
    source="github.com/Sakshi113/MMAU: mmau-test-mini.json of commit 1c6af99 (October 2024)",
    files=(r"mmau-test-mini\.json",),
    other_files=(r"mmau-test\.json",),
    split="test-mini as of 2024",
    size=1_000,
    read=reader(
        audio="audio_id",
        columns=MMAU_COLUMNS,
        split="test-mini",
        known=("72fb5481-73ae-409d-8e16-c94ac48d2ee4", "A child"),
    ),
    upstream_prefix="[open ended]",
    score=substring_choice,
    results={
        "accuracy": {
            "Qwen2-Audio-Instruct": 0.492, "Qwen-Audio-Chat": 0.431, "SALMONN": 0.337, "GAMA": 0.309,
            "MU-LLaMA": 0.319, "GAMA-IT": 0.302, "LTU-AS": 0.177, "LTU": 0.169, "Pengi": 0.034,
            "MATS-GPT2": 0.105, "MATS-LLaMA": 0.433, "MATS-Audio": 0.422,
        },
        "accuracy/sound": {
            "Qwen2-Audio-Instruct": 0.550, "Qwen-Audio-Chat": 0.553, "SALMONN": 0.410, "GAMA": 0.414,
            "MU-LLaMA": 0.408, "GAMA-IT": 0.432, "LTU-AS": 0.234, "LTU": 0.225, "Pengi": 0.061,
            "MATS-GPT2": 0.078, "MATS-LLaMA": 0.523, "MATS-Audio": 0.517,
        },
        "accuracy/music": {
            "Qwen2-Audio-Instruct": 0.510, "Qwen-Audio-Chat": 0.440, "SALMONN": 0.348, "GAMA": 0.323,
            "MU-LLaMA": 0.326, "GAMA-IT": 0.284, "LTU-AS": 0.091, "LTU": 0.097, "Pengi": 0.029,
            "MATS-GPT2": 0.141, "MATS-LLaMA": 0.449, "MATS-Audio": 0.437,
        },
    },
    submission=Submission(file="submission.json", id_key="id", answer_key="model_output"),
    note="File and rule of 2024, which the paper used; both were revised in 2025 under the same names.",
)  # fmt: skip
