"""MMAR: questions that need several steps of reasoning, on sound, music, speech and their mixes."""

from mats_ray.evaluate.benchmark import Benchmark, Submission
from mats_ray.evaluate.metrics.choices import token_choice
from mats_ray.evaluate.readers.choices import reader

BENCHMARK = Benchmark(
    name="mmar",
    title="MMAR",
    paper="Ma et al., 2025, arXiv:2505.13032",
    license="unknown",
    source="github.com/ddlBoJack/MMAR: MMAR-meta.jsonl; audio at huggingface.co/datasets/BoJack/MMAR",
    files=(r"MMAR-meta\.jsonl", r"MMAR-meta\.json"),
    split="all questions",
    size=1_000,
    read=reader(audio="audio_path", columns=("modality", "category", "sub-category", "language")),
    upstream_prefix="[open ended]",
    score=token_choice,
    submission=Submission(file="submission.jsonl", id_key="id", answer_key="answer_prediction"),
    note="Not in the paper; scored by MMAR's string rule, not by its rubrics, which need a judge.",
)
