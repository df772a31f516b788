"""Classification with any labels: how near each is to a sound in CLAP's space. No language model takes part.

Shapes: N labels, C CLAP dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mats_ray.serving.problems import RequestError

TEMPERATURE = 0.07
"""Of the softmax over cosines: what CLAP's training starts from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """How well a label fits."""

    label: str
    score: float
    """Softmax over the labels."""
    similarity: float
    """Cosine."""


def match(embedding_C: np.ndarray, labels_NC: np.ndarray, labels: Sequence[str]) -> list[Match]:
    """Compare a sound with labels, the best first; equal ones stay in their order."""
    unit_C = embedding_C / np.linalg.norm(embedding_C)
    similarity_N = labels_NC @ unit_C / np.linalg.norm(labels_NC, axis=1)
    weight_N = np.exp((similarity_N - similarity_N.max()) / TEMPERATURE)
    score_N = weight_N / weight_N.sum()
    return [
        Match(label=str(labels[n]), score=float(score_N[n]), similarity=float(similarity_N[n]))
        for n in np.argsort(-score_N, kind="stable")
    ]


def check_labels(labels: Sequence[str], *, max_labels: int, max_characters: int) -> None:
    """Refuse what is no set of labels.

    Raises:
        RequestError: There are none or too many, or one is empty, too long, or there twice.
    """
    said = None
    if not labels:
        said = "send at least one label"
    elif len(labels) > max_labels:
        said = f"there are {len(labels)} labels, at most {max_labels} are allowed"
    elif any(not label.strip() for label in labels):
        said = "a label is empty"
    elif len(longest := max(labels, key=len)) > max_characters:
        said = f"a label has {len(longest)} characters, at most {max_characters} are allowed"
    elif len(set(labels)) < len(labels):
        said = "a label is there twice"
    if said is not None:
        raise RequestError(said, code="invalid_field", param="labels")
