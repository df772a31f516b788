"""The modality gap of a benchmark's audio and captions, before and after the bridge (paper Fig. 3: Santa).

Shapes: N clips, C CLAP dim.
"""

from collections.abc import Sequence

import numpy as np
import torch

from mats_ray.caption.embeddings import EmbeddingStore
from mats_ray.evaluate.embedders import CLAP, load_embedder
from mats_ray.evaluate.log import EvaluationLog, Row
from mats_ray.models.bridges.table import load_bridge
from mats_ray.models.directory import ModelInfo


def measure_gap(audio_NC: np.ndarray, text_NC: np.ndarray, moved_NC: np.ndarray) -> dict[str, float]:
    """Measure how far audio is from its text.

    Args:
        audio_NC: Unit vectors.
        text_NC: Of one description of each clip.
        moved_NC: The audio after Santa, or another bridge.

    Returns:
        Mean cosine of matching pairs (``matching``) and of all others (``others``), and distance of the
        centroids (``centroids``; Liang et al., 2022), and each ``_after_santa``.
    """
    return {
        **_gap(audio_NC, text_NC),
        **{f"{name}_after_santa": value for name, value in _gap(moved_NC, text_NC).items()},
    }


def modality_gap(audio_NC: np.ndarray, text_NC: np.ndarray) -> float:
    """Distance between the centroids of two sets of unit vectors (Liang et al., 2022)."""
    return float(np.linalg.norm(audio_NC.mean(axis=0) - text_NC.mean(axis=0)))


def _gap(audio_NC: np.ndarray, text_NC: np.ndarray) -> dict[str, float]:
    count, matching_N = len(audio_NC), (audio_NC * text_NC).sum(axis=1)
    # the sum over all pairs is the product of the sums, so no N x N matrix is needed
    total = float(audio_NC.sum(axis=0) @ text_NC.sum(axis=0)) - float(matching_N.sum())
    return {
        "matching": float(matching_N.mean()),
        "others": total / (count * (count - 1)) if count > 1 else 0.0,
        "centroids": modality_gap(audio_NC, text_NC),
    }


def write_gap(log: EvaluationLog, info: ModelInfo, embeddings: str) -> dict[str, float]:
    """Measure the gap of a benchmark of captions from kept audio embeddings, and write ``gap.json``.

    The text of a clip is its first caption; clips without an embedding are left out.

    Args:
        log: Of the benchmark, with its rows.
        info: Of the model: its CLAP embeds the captions, its bridge moves the audio.
        embeddings: Folder of the kept embeddings.

    Returns:
        See ``measure_gap``, and ``clips``; empty where no clip has an embedding.
    """
    audio_NC, captions = _pairs(log.rows(), EmbeddingStore(embeddings, info.space))
    if not captions:
        return {}
    embedder = load_embedder(CLAP, clap=info.model.clap)  # pyright: ignore[reportArgumentType]  (frozen)
    text_NC = embedder.encode(captions)
    audio_NC /= np.linalg.norm(audio_NC, axis=1, keepdims=True)
    moved_NC = load_bridge(info).transfer(torch.from_numpy(audio_NC)).numpy()
    tree = measure_gap(audio_NC, text_NC, moved_NC) | {"clips": len(captions)}
    log.write_gap(tree)
    return tree


def _pairs(rows: Sequence[Row], store: EmbeddingStore) -> tuple[np.ndarray, list[str]]:
    kept = store.embeddings({row.audio for row in rows if row.audio})
    pairs = {row.audio: row.sample.references[0] for row in rows if row.audio in kept}
    if not pairs:
        return np.zeros((0, 0), np.float32), []
    return np.stack([kept[path] for path in pairs if path]), list(pairs.values())
