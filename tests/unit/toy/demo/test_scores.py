"""Scores with their uncertainty: what is independent counts as such, what is paired is compared as pairs."""

import numpy as np
import pytest

from mats_ray.toy.demo.scores import MEASURES, Estimate, Score


def scored(captions, right, questions):
    return Score(("",) * len(captions), np.array(captions, bool), np.array(right), np.array(questions))


def test_an_estimate_is_a_mean_with_its_standard_error():
    one = Estimate.of([1, 0, 1, 0])

    assert (one.value, one.error) == (0.5, pytest.approx(0.2887, abs=1e-4))
    assert one.interval == pytest.approx((0.5 - 1.96 * one.error, 0.5 + 1.96 * one.error))


def test_a_single_clip_has_no_error_and_no_nan():
    tree = scored([1], [2], [3]).as_dict()

    assert tree["caption_all_sounds_error"] == tree["questions_right_error"] == 0
    assert tree["questions_right"] == pytest.approx(2 / 3)


def test_the_error_of_a_share_is_that_of_its_clips():
    rng = np.random.default_rng(0)
    captions = rng.random(400) < 0.8

    error = scored(captions, captions * 4, [4] * 400).estimate("caption_all_sounds").error

    assert error == pytest.approx((0.8 * 0.2 / 400) ** 0.5, rel=0.1)


def test_questions_of_one_clip_are_not_independent():
    """Four questions that stand or fall together say as much as one."""
    captions = np.arange(400) % 5 != 0
    one = scored(captions, captions * 4, [4] * 400)

    assert one.estimate("questions_right").error == pytest.approx(one.estimate("caption_all_sounds").error)


def test_questions_are_weighed_equally_whatever_their_clip():
    assert scored([1, 1], [4, 0], [4, 1]).estimate("questions_right").value == pytest.approx(0.8)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_difference_is_that_of_the_shares_and_pairs_make_it_sharper(measure):
    rng = np.random.default_rng(1)
    captions = rng.random(300) < 0.6
    better = captions | (np.arange(300) < 15)
    one, other = (scored(right, right * 3, [3] * 300) for right in (better, captions))

    difference = one.minus(other, measure)

    assert difference.value == pytest.approx(one.estimate(measure).value - other.estimate(measure).value)
    assert 0 < difference.error < 0.5 * one.estimate(measure).error
    assert difference.interval[0] > 0


def test_systems_on_other_clips_cannot_be_compared():
    with pytest.raises(ValueError, match="broadcast"):
        scored([1, 0], [1, 1], [2, 2]).minus(scored([1, 0, 1], [1, 1, 1], [2, 2, 2]), "questions_right")
