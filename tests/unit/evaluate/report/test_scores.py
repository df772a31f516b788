"""Files of scores: read as written, and refused with the place that is wrong."""

import json

import pytest

from mats_ray.errors import DataError, MissingError
from mats_ray.evaluate.report.scores import read_scores
from tests.unit.evaluate.report.results import measure, scores_of


def read(tmp_path, scores):
    path = tmp_path / "scores.json"
    path.write_text(scores if isinstance(scores, str) else json.dumps(scores))
    return read_scores(str(path))


def test_the_main_measure_is_the_first_one(tmp_path):
    scores = read(tmp_path, scores_of(measures={"map": measure(0.4, n=3), "accuracy": measure(0.5, n=3)}))

    assert scores.main == "map"
    assert scores.measures["map"].chance is None


def test_without_measures_there_is_no_main_one(tmp_path):
    assert read(tmp_path, scores_of(measures={})).main == ""


def test_other_fields_are_passed_over(tmp_path):
    assert read(tmp_path, scores_of(seconds=12.5)).benchmark == "esc50"


def test_a_field_that_is_wrong_is_named(tmp_path):
    scores = scores_of(measures={"accuracy": measure(0.6, n=3) | {"value": "<b>much</b>"}})

    with pytest.raises(DataError, match=r"scores\.json is not a file of scores: measures\.accuracy\.value"):
        read(tmp_path, scores)


@pytest.mark.parametrize("content", ["", "[]", '{"benchmark": "esc'])
def test_another_file_is_refused(tmp_path, content):
    with pytest.raises(DataError, match="is not a file of scores"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    "confusion",
    [
        {"labels": ["a", "b"], "counts": [[1, 2]]},
        {"labels": ["a", "b"], "counts": [[1, 2], [3]]},
        {"labels": ["a", "b"], "counts": [[1, 2], [3, 4]], "unmatched": [1]},
    ],
)
def test_a_confusion_matrix_that_is_not_square_is_refused(tmp_path, confusion):
    with pytest.raises(DataError, match="counts of 2 labels must be 2 rows"):
        read(tmp_path, scores_of(confusion=confusion))


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(MissingError):
        read_scores(str(tmp_path / "scores.json"))
