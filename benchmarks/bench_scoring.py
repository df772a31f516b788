"""Seconds and peak memory of scoring: 20,000 captions with five references each, and answers against labels.

    python -m benchmarks.bench_scoring [--captions 20000] [--meteor]

Captions are real ones of AudioCaps and Clotho where ``../shared`` has them, made-up ones otherwise; each is
answer or reference of several samples. One core is used; with ``--meteor`` there is Java beside it.

As many answers as VGGSound's test split has are matched to as many labels: by ``label_accuracy`` in one
matrix product, by one product per label, pair by pair as LTU does it. Vectors are random and made beforehand.
"""

import argparse
import csv
import json
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import chain, cycle, islice
from pathlib import Path

import numpy as np

from benchmarks.bench_rows import caption
from mats_ray.evaluate.benchmark import Record, Resources, Sample
from mats_ray.evaluate.metrics.captions import Texts, bleu, meteor, rouge_l
from mats_ray.evaluate.metrics.labels import answer_text, label_accuracy, label_text

ANNOTATIONS = Path("../shared/data/annotations")
REFERENCES = 5
ANSWERS, LABELS, DIM, PAIRED_ANSWERS = 15_446, 309, 384, 200
GOAL_S, GOAL_MB = 60, 2_000


def main() -> None:
    """Measure and print a line per measure, then the totals and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", type=int, default=20_000)
    parser.add_argument("--meteor", action="store_true", help="METEOR as well, where there is java")
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(json.dumps({**captions(args.captions, with_meteor=args.meteor), **labels()}))


def captions(number: int, *, with_meteor: bool) -> dict[str, float]:
    """Score captions; the bootstrap of each measure is part of it."""
    texts = Texts(list(islice(records(), number)))
    words = sum(len(text.split()) for text in texts.candidates) / number
    print(f"{number} captions of {words:.1f} words with {REFERENCES} references each, one core")
    measures: dict[str, Callable] = {
        "cider_d": lambda: texts.cider_d,
        "bleu_4": lambda: bleu(texts, 4),
        "rouge_l": lambda: rouge_l(texts),
    }
    if with_meteor and shutil.which("java"):
        measures["meteor"] = lambda: meteor(texts)
    fresh = Texts(texts.records)
    seconds = {"tokenized": timed(lambda: (fresh.candidates, fresh.references))}
    for name, make in measures.items():
        seconds[name] = timed(lambda make=make: make().estimate(np.arange(number)))
    for name, taken in seconds.items():
        print(f"{name:<10} {taken:6.1f} s")
    total, peak = sum(seconds.values()), peak_mb(resource.RUSAGE_SELF)
    print(f"together {total:.1f} s (goal {GOAL_S}), peak {peak:.0f} MB (goal {GOAL_MB})", end="")
    print(f", java {peak_mb(resource.RUSAGE_CHILDREN):.0f} MB" if "meteor" in seconds else "")
    return {**seconds, "together": total, "peak_mb": peak}


def records() -> Iterator[Record]:
    """Answered samples without end; captions come round at another place among the references."""
    texts = cycle(real_captions() or [caption(number * 7_919) for number in range(70_001)])
    for number in range(10**9):
        answer, *references = islice(texts, 1 + REFERENCES)
        yield Record(
            sample=Sample(id=str(number), audio=(), references=(*references[1:], answer, references[0])[:5]),
            answer=references[0],
        )


def real_captions() -> list[str]:
    """Captions of the training splits; empty where the files are not there."""
    files = [ANNOTATIONS / f"{name}_train.csv" for name in ("audiocaps", "clotho")]
    if not all(file.is_file() for file in files):
        return []
    found = []
    for file in files:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = csv.DictReader(stream)
            found.append([row[key] for row in rows for key in row if key.startswith("caption")])
    return list(chain(*found))


class Vectors:
    """Random unit vectors by text, made beforehand."""

    name = "random"

    def __init__(self, texts: list[str]) -> None:
        vectors = np.random.default_rng(0).normal(size=(len(texts), DIM)).astype(np.float32)
        self.of = dict(zip(texts, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True))

    def encode(self, texts):
        return np.stack([self.of[text] for text in texts])


def labels() -> dict[str, float]:
    """Match answers to labels in three ways that must agree."""
    names = [f"label {number}" for number in range(LABELS)]
    answered = [
        Record(sample=Sample(id=str(n), audio=(), references=(names[n % LABELS],)), answer=caption(n * 7_919))
        for n in range(ANSWERS)
    ]
    texts = [answer_text(one.answer) for one in answered]
    vectors = Vectors([*dict.fromkeys(texts), *map(label_text, names)])
    names.sort()
    resources = Resources(embedder=lambda: vectors)
    found: dict[str, list[str]] = {}

    def one_product() -> None:
        found["one product"] = list(label_accuracy(answered, resources).predictions)

    def label_by_label() -> None:
        answer_NC = vectors.encode([answer_text(one.answer) for one in answered])
        cosine_LN = np.stack([answer_NC @ vectors.encode([label_text(name)])[0] for name in names])
        found["label by label"] = [names[best] for best in cosine_LN.argmax(axis=0)]

    def pair_by_pair() -> None:
        nearest = []
        for one in answered[:PAIRED_ANSWERS]:
            answer_C = vectors.of[answer_text(one.answer)]
            cosines = [answer_C @ vectors.of[label_text(name)] for name in names]
            nearest.append(names[int(np.argmax(cosines))])
        found["pair by pair"] = nearest

    label_accuracy(answered[:LABELS], resources)  # imports scikit-learn
    seconds = {way.__name__: timed(way) for way in (one_product, label_by_label, pair_by_pair)}
    seconds["pair_by_pair"] *= ANSWERS / PAIRED_ANSWERS
    agree = [
        np.mean([one == two for one, two in zip(found["one product"], others, strict=False)])
        for others in found.values()
    ]
    print(f"{ANSWERS} answers, {LABELS} labels, {DIM} dimensions; the same label for {min(agree):.4%}")
    for way, taken in seconds.items():
        note = f" (of {PAIRED_ANSWERS} answers)" if way == "pair_by_pair" else ""
        print(f"{way:<14} {taken:6.2f} s, {taken / seconds['one_product']:5.1f} x{note}")
    return seconds


def timed(work: Callable[[], object]) -> float:
    """Run something and return its seconds."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def peak_mb(who: int) -> float:
    """Peak resident memory of this process or of the largest of its children."""
    return resource.getrusage(who).ru_maxrss / 1_024


if __name__ == "__main__":
    main()
