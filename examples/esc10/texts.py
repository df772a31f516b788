"""Text-only training data: real captions and label sentences, never a sound."""

from collections.abc import Mapping, Sequence

import numpy as np

from examples.esc10.classes import CLASSES, NAMES, label_sentences
from mats_ray.tasks import Task, instruction_for
from mats_ray.types import Triplet

TEXTS_PER_CLASS = 400
"""Classes with fewer captions say them again, so that the language model prefers none."""
LICENSES = {
    "audiocaps": "MIT",
    "clotho": "Clotho, non-commercial research",
    "labels": "Apache-2.0",
}


def texts_of(captions: Mapping[str, Sequence[tuple[str, str]]]) -> list[list[str]]:
    """All texts of each class, in the order of ``NAMES``."""
    return [[caption for _, caption in captions[name]] + label_sentences(name) for name in NAMES]


def triplets(captions: Mapping[str, Sequence[tuple[str, str]]], *, seed: int) -> list[Triplet]:
    """Make the rows: a text, itself and its label as answers; of a label sentence, the label only."""
    rng, rows = np.random.default_rng(seed), []
    for name in NAMES:
        pairs = captions[name]
        order = np.resize(rng.permutation(len(pairs)), TEXTS_PER_CLASS)
        for number, index in enumerate(order):
            source, caption = pairs[index]
            rows.append(_row(f"{source}/{name}/{number}/caption", caption, Task.CAPTION, caption, source))
            rows.append(_row(f"{source}/{name}/{number}/label", caption, Task.CLASSIFICATION, name, source))
        for number, sentence in enumerate(np.resize(label_sentences(name), TEXTS_PER_CLASS // 4)):
            rows.append(_row(f"labels/{name}/{number}", str(sentence), Task.CLASSIFICATION, name, "labels"))
    return rows


def _row(row_id: str, text: str, task: Task, answer: str, source: str) -> Triplet:
    return Triplet(
        id=row_id,
        text=text,
        instruction=instruction_for(task, None),
        answer=CLASSES[answer].label if task is Task.CLASSIFICATION else answer,
        task=task,
        source=source,
        split="train",
        license=LICENSES[source],
    )
