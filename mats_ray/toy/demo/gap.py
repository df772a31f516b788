"""The modality gap of a CLAP, measured on pairs of audio and text, and the noise that text alone asks for.

Shapes: N clips, S scenes, P captions of a scene, C joint dim.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mats_ray.evaluate.gap import measure_gap
from mats_ray.toy.clap import described_scene
from mats_ray.toy.grammar import captions
from mats_ray.toy.scenes import Scene, SceneClip

NUM_SCENES, NUM_CAPTIONS = 60, 5
"""Captions that noise is measured by: as many of a scene as Clotho and COCO have of a clip."""


def measure_toy_gap(
    audio_NC: np.ndarray, text_NC: np.ndarray, moved_NC: np.ndarray, scenes: Sequence[Scene]
) -> dict[str, float]:
    """Measure how far audio is from its text.

    Args:
        audio_NC: Unit vectors.
        text_NC: Of one description of each clip.
        moved_NC: The audio after Santa.
        scenes: Of the clips.

    Returns:
        See ``evaluate.gap.measure_gap``; and the share of clips whose nearest text tells of a scene like
        theirs (``recall_at_1``).
    """
    nearest = (audio_NC @ text_NC.T).argmax(axis=1)
    return {
        **measure_gap(audio_NC, text_NC, moved_NC),
        "recall_at_1": float(np.mean([scenes[i] == scene for i, scene in zip(nearest, scenes, strict=True)])),
    }


def pair_cosines(audio_NC: np.ndarray, text_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of matching pairs, (N,), and of all others, (N * (N - 1),)."""
    cosine_NN = audio_NC @ text_NC.T
    return np.diag(cosine_NN), cosine_NN[~np.eye(len(cosine_NN), dtype=bool)]


def caption_spread(clips: Sequence[SceneClip], encode: Callable[[list[str]], np.ndarray]) -> dict[str, Any]:
    """Measure by text alone how far captions of one clip are apart.

    Args:
        clips: Of training scenes.
        encode: CLAP's text side.

    Returns:
        ``captions_of_one_scene``: mean cosine between several ways of saying the same;
        ``captions_of_one_clip``: the same of captions as CLAP reads them, some of another scene;
        ``noise_variance``: the squared mean of the largest component of differences of the latter,
        CapDec's rule (Nukrai et al., 2022, arXiv 2211.00575).
    """
    careful, found = [], []
    for clip in clips[:NUM_SCENES]:
        rng = clip.rng(6)
        careful += captions(clip.scene, rng, NUM_CAPTIONS)
        others = [SceneClip(clip.scene, int(seed)) for seed in rng.integers(2**62, size=NUM_CAPTIONS)]
        found += [captions(described_scene(one), rng, 1)[0] for one in others]
    first, second = np.triu_indices(NUM_CAPTIONS, 1)
    careful_SPC, found_SPC = (
        rows.reshape(-1, NUM_CAPTIONS, rows.shape[-1]) for rows in map(encode, (careful, found))
    )
    differences = found_SPC[:, first] - found_SPC[:, second]
    return {
        "captions_of_one_scene": float((careful_SPC[:, first] * careful_SPC[:, second]).sum(-1).mean()),
        "captions_of_one_clip": float((found_SPC[:, first] * found_SPC[:, second]).sum(-1).mean()),
        "noise_variance": float(np.abs(differences).max(axis=-1).mean() ** 2),
    }
