"""Results of the demo's systems: logs and scores as of any evaluation, paired by clip."""

import numpy as np
import pytest

from mats_ray.toy.demo.results import MEASURES, record_answers
from mats_ray.toy.demo.testset import samples_of, write_test_set


@pytest.fixture(scope="module")
def clips(world, tmp_path_factory):
    return write_test_set(world, tmp_path_factory.mktemp("audio"))


def perfect(clips):
    return [sample.references[0] for sample in samples_of(clips)]


def worse(clips, *, captions):
    """Wrong captions of the first clips."""
    return ["a unicorn sings" if n < captions else text for n, text in enumerate(perfect(clips))]


def test_a_result_is_a_log_with_scores(clips, tmp_path):
    result = record_answers(clips, worse(clips, captions=3), tmp_path, system="floor")

    tree = result.as_dict()
    assert tree["caption_all_sounds"] == 9 / 12
    assert tree["questions_right"] == 1
    assert (tree["num_clips"], tree["num_questions"]) == (12, len(samples_of(clips)) - 12)
    assert result.captions[:4] == ["a unicorn sings"] * 3 + perfect(clips)[3:4]
    assert (tmp_path / "scores.json").is_file()
    assert (tmp_path / "samples.parquet").is_file()


def test_the_error_of_a_share_is_that_of_its_clips(clips, tmp_path):
    error = record_answers(clips, worse(clips, captions=3), tmp_path, system="x").as_dict()

    assert error["caption_all_sounds_error"] == pytest.approx((0.75 * 0.25 / 12) ** 0.5, rel=0.1)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_difference_is_that_of_the_shares_and_pairs_make_it_sharper(clips, tmp_path, measure):
    one = record_answers(clips, worse(clips, captions=3), tmp_path / "a", system="a")
    other = record_answers(clips, worse(clips, captions=4), tmp_path / "b", system="b")

    difference = one.minus(other, measure)

    assert difference.value == pytest.approx(one.value(measure) - other.value(measure))
    assert difference.error <= np.hypot(*(x.as_dict()[f"{measure}_error"] for x in (one, other)))
    assert other.minus(other, measure).error == 0
