"""Classification with any labels, by similarity to the audio in CLAP's space; without a language model.

Shapes: N labels, C CLAP dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mats_ray.errors import DataError

TEMPERATURE = 0.07
"""Temperature of the softmax over cosines, the value that CLAP's training starts from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Score of one label."""

    label: str
    score: float
    """Softmax over the labels."""
    similarity: float
    """Cosine."""


def match(embedding_C: np.ndarray, labels_NC: np.ndarray, labels: Sequence[str]) -> list[Match]:
    """Compare an audio embedding with labels, the best first; equal ones keep their order."""
    unit_C = embedding_C / np.linalg.norm(embedding_C)
    similarity_N = labels_NC @ unit_C / np.linalg.norm(labels_NC, axis=1)
    weight_N = np.exp((similarity_N - similarity_N.max()) / TEMPERATURE)
    score_N = weight_N / weight_N.sum()
    return [
        Match(label=str(labels[n]), score=float(score_N[n]), similarity=float(similarity_N[n]))
        for n in np.argsort(-score_N, kind="stable")
    ]


def read_labels(path: str) -> list[str]:
    """Read a text file, local or remote, with one label per line; empty lines are skipped.

    Raises:
        DataError: It cannot be read, or names fewer than two labels, or one twice.
    """
    from mats_ray.storage import read_bytes  # and with it pyarrow, which matching labels does not need

    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"the labels {path} cannot be read: {error}") from error
    labels = [line.strip() for line in lines if line.strip()]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise DataError(f"{path} names the label {min(twice)!r} twice")
    if len(labels) < 2:
        raise DataError(f"{path} names {len(labels)} labels, at least 2 are needed, one a line")
    return labels
