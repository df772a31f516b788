"""The modality gap's numbers on sets of vectors whose gap is known, and noise measured by text."""

import numpy as np
import pytest

from mats_ray.toy.demo.gap import caption_spread, measure_toy_gap, pair_cosines
from mats_ray.toy.scenes import Scene, all_scenes, scene_clips

SCENES = [Scene("alone", (name,)) for name in ("dog", "rain", "bell")]


def pairs(gap):
    """Text along three axes, audio the same with one more component, all of unit length."""
    text_NC = np.eye(4)[:3]
    audio_NC = np.hstack([np.eye(3) * (1 - gap**2) ** 0.5, np.full((3, 1), gap)])
    return audio_NC, text_NC


def test_cosines_and_recall_of_a_known_gap():
    audio_NC, text_NC = pairs(0.8)

    gap = measure_toy_gap(audio_NC, text_NC, text_NC, SCENES)

    assert gap["matching"] == pytest.approx(0.6)
    assert gap["recall_at_1"] == 1


def test_the_nearest_text_counts_if_it_tells_of_such_a_scene():
    audio_NC, text_NC = pairs(0.5)
    same = [SCENES[0], SCENES[0], SCENES[1]]

    assert measure_toy_gap(audio_NC, text_NC[[1, 0, 2]], audio_NC, SCENES)["recall_at_1"] == pytest.approx(
        1 / 3
    )
    assert measure_toy_gap(audio_NC, text_NC[[1, 0, 2]], audio_NC, same)["recall_at_1"] == 1


def test_matching_pairs_and_all_others():
    matching, others = pair_cosines(*pairs(0.6))

    assert matching.tolist() == pytest.approx([0.8] * 3)
    assert others.shape == (6,)
    assert pair_cosines(*(rows[:1] for rows in pairs(0.6)))[1].shape == (0,)


def test_noise_is_the_squared_largest_difference_of_captions_of_a_clip():
    clips = scene_clips(all_scenes(), 20, seed=0)

    def encode(texts):  # the same for all, but a component of 0.3 for texts of an even length
        return np.array([[1.0, 0.3 * (len(text) % 2), 0.1 * (len(text) % 2)] for text in texts])

    spread = caption_spread(clips, encode)
    same = caption_spread(clips, lambda texts: np.ones((len(texts), 3)) / 3**0.5)

    assert 0 < spread["noise_variance"] < 0.3**2
    assert same == {
        "captions_of_one_scene": pytest.approx(1),
        "captions_of_one_clip": pytest.approx(1),
        "noise_variance": 0,
    }
    assert caption_spread(clips, encode) == spread
