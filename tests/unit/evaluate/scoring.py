"""Answered samples in a line, and the real annotation files beside the checkout."""

import csv
import json
import re

import numpy as np

from mats_ray.evaluate.benchmark import Record, Resources, Sample
from tests.unit.data.sources.reading import annotations


def record(answer: str, *references: str, choices=()) -> Record:
    """An answered sample."""
    sample = Sample(id=f"{answer} {references}", audio=("a.wav",), references=references, choices=choices)
    return Record(sample=sample, answer=answer)


def no_embedder():
    raise AssertionError("this scorer embeds nothing")


NOTHING = Resources(embedder=no_embedder)


def every(records) -> np.ndarray:
    """Indices of all samples."""
    return np.arange(len(records))


def values(scores, records) -> dict[str, float]:
    """Measures over all samples."""
    return {name: one.of(every(records)) for name, one in scores.measures.items()}


class BagOfWords:
    """Unit vectors of counts of words, each word in a direction of its own."""

    name = "bag of words"

    def __init__(self, words=r"\w+"):
        self.words = words
        self.directions = {}
        self.calls = 0

    def encode(self, texts):
        self.calls += 1
        vectors = np.full((len(texts), 512), 1e-6, np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(self.words, text):
                vectors[row, self.directions.setdefault(word, len(self.directions))] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def audiocaps_test() -> list[list[str]]:
    """The five captions of each clip of AudioCaps' test split."""
    captions = {}
    with annotations("audiocaps_test.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            captions.setdefault((row["youtube_id"], row["start_time"]), []).append(row["caption"])
    return [five for five in captions.values() if len(five) == 5]


def clotho_evaluation() -> list[list[str]]:
    """The five captions of each clip of Clotho's evaluation split."""
    with annotations("clotho_test.csv").open(newline="", encoding="utf-8") as stream:
        return [[row[f"caption_{n}"] for n in range(1, 6)] for row in csv.DictReader(stream)]


def mmau_test_mini() -> list[dict]:
    """The questions of MMAU test-mini."""
    return json.loads(annotations("mmau-test-mini.json").read_text())
