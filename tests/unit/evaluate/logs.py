"""A small benchmark and logs of it, for tests of what reads a log."""

from collections.abc import Sequence

import numpy as np

from mats_ray.evaluate.benchmark import Benchmark, Record, Resources, Sample, Scores
from mats_ray.evaluate.header import Header
from mats_ray.evaluate.log import EvaluationLog, Row
from mats_ray.evaluate.measure import Measure
from tests.unit.evaluate.scoring import BagOfWords

RESOURCES = Resources(embedder=BagOfWords)


def exact(records: Sequence[Record], resources: Resources) -> Scores:
    right = np.array([one.answer in one.sample.references for one in records])
    return Scores(
        measures={"accuracy": Measure.mean(right, chance=0.5)},
        unavailable={"spice": "no jar"},
        predictions=[one.answer if one.answer in ("dog", "rain") else "" for one in records],
    )


BENCHMARK = Benchmark(
    name="tiny",
    title="Tiny",
    paper="Nobody, 2026",
    license="CC0",
    source="here",
    files=(r"tiny\.csv",),
    other_files=(r"tiny_train\.csv",),
    split="test",
    size=4,
    read=lambda file: iter(()),
    score=exact,
    prompt="Which sound?",
    upstream_prefix="[single event]",
    results={"accuracy": {"MATS-LLaMA": 0.9}},
)


def header(**changes) -> Header:
    facts = {
        "benchmark": "tiny",
        "version": 1,
        "model": {"id": "m@1"},
        "decoding": "fast",
        "prompt": {"mode": "none", "prefix": "", "example": "Which sound?"},
        "annotations": "tiny.csv",
        "audio": "clips",
    }
    return Header(**facts | changes)


def row(name: str, reference: str, answer: str, status: str = "ok", **categories: str) -> Row:
    sample = Sample(id=name, audio=(f"{name}.wav",), references=(reference,), categories=categories)
    audio = None if status == "missing" else f"/clips/{name}.wav"
    return Row(sample=sample, prompt="Which sound?", status=status, audio=audio, answer=answer)


def write_log(folder, rows: Sequence[Row], **changes) -> EvaluationLog:
    log = EvaluationLog(str(folder))
    log.claim(header(**changes))
    log.write(rows)
    return log
