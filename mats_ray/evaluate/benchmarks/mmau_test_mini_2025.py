"""MMAU test-mini as revised on 15 May 2025, with the rule its authors use since."""

from mats_ray.evaluate.benchmark import Benchmark, Submission
from mats_ray.evaluate.metrics.choices import token_choice
from mats_ray.evaluate.readers.choices import MMAU_COLUMNS, reader

BENCHMARK = Benchmark(
    name="mmau_test_mini_2025",
    title="MMAU test-mini, v05.15.25",
    paper="Sakshi et al., 2025, ICLR",
    license="Apache-2.0",
    source="github.com/Sakshi113/MMAU: mmau-test-mini.json",
    files=(r"mmau-test-mini\.json",),
    other_files=(r"mmau-test\.json",),
    split="test-mini v05.15.25",
    size=1_000,
    read=reader(
        audio="audio_id",
        columns=MMAU_COLUMNS,
        split="test-mini",
        known=("72fb5481-73ae-409d-8e16-c94ac48d2ee4", "A woman"),
    ),
    upstream_prefix="[open ended]",
    score=token_choice,
    results={"accuracy": {"Audio Flamingo 3": 0.733}},
    submission=Submission(file="submission.json", id_key="id", answer_key="model_output"),
    note="A quarter of the questions, and the rule, are not those of 2024: no score of the paper compares.",
)  # fmt: skip
