"""Evaluation folders as ``mats evaluate`` leaves them."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

LABELS = ("dog", "rain", "crying baby", "sneezing")
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("audio", pa.string()),
        ("question", pa.string()),
        ("references", pa.list_(pa.string())),
        ("choices", pa.list_(pa.string())),
        ("categories", pa.map_(pa.string(), pa.string())),
        ("prompt", pa.string()),
        ("answer", pa.string()),
        ("status", pa.string()),
        ("error_code", pa.string()),
        ("error", pa.string()),
        ("prediction", pa.string()),
        ("score", pa.float64()),
    ]
)
PROMPT = "[single event] Identify the sound in the following audio."


def scores_of(benchmark="esc50", **changes):
    """The scores of a benchmark, some of whose audio is missing; a change replaces a key."""
    return {
        "benchmark": benchmark,
        "title": "ESC-50",
        "version": 1,
        "split": "all five folds",
        "note": "A file with fewer classes is scored among its own classes.",
        "paper": "Piczak, 2015, ACM Multimedia",
        "license": "CC BY-NC 3.0",
        "source": "github.com/karolpiczak/ESC-50: meta/esc50.csv, audio/",
        "measures": {
            "accuracy": measure(0.6203, n=320, chance=0.1, value_with_audio=0.6403, n_with_audio=304),
            "macro_f1": measure(0.588, n=320),
        },
        "unavailable": {"spice": "there is no Java"},
        "samples": {
            "published": 2000,
            "annotated": 320,
            "left_out": {"duplicate id": 2},
            "first_rejected": "",
            "answered": 300,
            "empty": 1,
            "errors": {"truncated": 3},
            "missing_audio": 16,
            "ambiguous_audio": 0,
        },
        "per_class": {name: {"value": 0.9 - 0.2 * n, "n": 80} for n, name in enumerate(LABELS)},
        "per_category": {
            "difficulty": {"easy": {"value": 0.71, "n": 200}, "hard": {"value": 0.45, "n": 120}}
        },
        "confusion": {
            "labels": [*LABELS],
            "counts": [[70, 5, 3, 2], [4, 60, 10, 6], [9, 1, 40, 29], [0, 0, 55, 25]],
            "unmatched": [0, 0, 1, 0],
        },
        "results": {"accuracy": {"CLAP": 0.83, "MATS-LLaMA": 0.88}, "spice": {"MATS-LLaMA": 0.171}},
        "details": {"embedder": "all-MiniLM-L6-v2", "labels": "10"},
        "model": {"id": "toy@abc", "clap": "toy-clap", "directory": "out/toy/model"},
        "decoding": "paper, at most 200 tokens",
        "prompt": {"mode": "upstream_eval", "prefix": "[single event]", "example": PROMPT},
        "versions": {"mats-ray": "0.1.0", "torch": "2.13.0"},
        "revision": "42dd43b",
        "created": "2026-11-29T12:00:00Z",
    } | changes


def measure(value, *, n, error=0.027, **more):
    return {"value": value, "n": n, "error": error, "low": value - 0.05, "high": value + 0.05, **more}


def sample(name, *, score=1.0, **changes):
    """A row of ``samples.parquet``; a change replaces a column."""
    answer = "a dog barks" if score else "rain on a roof"
    return {
        "id": name,
        "audio": None,
        "question": "",
        "references": ["dog"],
        "choices": [],
        "categories": {"difficulty": "easy"},
        "prompt": PROMPT,
        "answer": answer,
        "status": "ok",
        "error_code": "",
        "error": "",
        "prediction": "dog" if score else "rain",
        "score": score,
    } | changes


def write_results(folder: Path, scores=None, samples=None) -> Path:
    """Write the results of one benchmark into an evaluation folder; returns the benchmark's own."""
    scores = scores or scores_of()
    own = folder / scores["benchmark"]
    own.mkdir(parents=True)
    (own / "scores.json").write_text(json.dumps(scores), "utf-8")
    if samples is not None:
        write_samples(own / "samples.parquet", samples)
    return own


def write_samples(path: Path, samples, **options) -> str:
    """Write rows; returns the path as text."""
    rows = [row | {"categories": [*row["categories"].items()]} for row in samples]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path, **options)
    return str(path)
