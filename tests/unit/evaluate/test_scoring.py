"""Scores are a function of the log, and every sample is counted."""

import numpy as np
import pytest

from mats_ray.evaluate.scoring import recordings, score_log
from tests.unit.evaluate.logs import BENCHMARK, RESOURCES, row, write_log

ROWS = [
    row("a", "dog", "dog", task="one"),
    row("b", "dog", "rain", task="one"),
    row("c", "rain", "rain", task="two"),
    row("d", "rain", "", "missing", task="two"),
    row("e", "rain", "", "empty", task="two"),
]


@pytest.fixture
def scored(tmp_path):
    log = write_log(tmp_path / "tiny", ROWS, left_out={"duplicate id": 2})
    return log, score_log(log, BENCHMARK, RESOURCES)


def test_missing_audio_counts_as_wrong_and_the_value_without_it_stands_beside(scored):
    _, tree = scored

    accuracy = tree["measures"]["accuracy"]
    assert accuracy["value"] == 2 / 5
    assert (accuracy["value_with_audio"], accuracy["n_with_audio"]) == (2 / 4, 4)
    assert accuracy["chance"] == 0.5


def test_the_error_is_that_of_a_mean(scored):
    _, tree = scored

    assert tree["measures"]["accuracy"]["error"] == pytest.approx(np.sqrt(0.4 * 0.6 / 5), rel=0.1)


def test_every_sample_is_counted_once(scored):
    _, tree = scored

    counts = tree["samples"]
    assert counts["annotated"] == 5 == counts["answered"] + counts["empty"] + counts["missing_audio"]
    assert counts["left_out"] == {"duplicate id": 2}
    assert counts["published"] == 4


def test_tables_by_class_and_category(scored):
    _, tree = scored

    assert tree["per_class"] == {"dog": {"value": 0.5, "n": 2}, "rain": {"value": 1 / 3, "n": 3}}
    assert tree["per_category"]["task"] == {"one": {"value": 0.5, "n": 2}, "two": {"value": 1 / 3, "n": 3}}


def test_the_confusion_matrix_counts_answers_without_a_label_apart(scored):
    _, tree = scored

    assert tree["confusion"] == {
        "labels": ["dog", "rain"],
        "counts": [[1, 1], [0, 1]],
        "unmatched": [0, 2],
    }


def test_a_measure_that_cannot_be_had_keeps_its_reason(scored):
    _, tree = scored

    assert tree["unavailable"] == {"spice": "no jar"}


def test_scoring_again_gives_the_same_file(scored):
    log, tree = scored

    assert score_log(log, BENCHMARK, RESOURCES) == tree == log.scores()


def test_samples_of_one_recording_have_one_number():
    rows = [row("a", "x", ""), row("b", "x", ""), row("a", "y", "")]

    numbers = recordings(rows).tolist()

    assert numbers[0] == numbers[2] != numbers[1]
