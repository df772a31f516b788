"""Answers of other systems come from a file, whole or not at all."""

import json

import pytest

from mats_ray.errors import DataError
from mats_ray.evaluate.given_answers import read_answers


def written(tmp_path, text, name="a.csv"):
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return str(path)


def test_answers_are_read_by_id_whatever_the_case_of_the_columns(tmp_path):
    path = written(tmp_path, 'ID,note, Answer \n1,x,"a dog, barking"\n2,x,NA\n')

    assert read_answers(path, ["1", "2", "3"]) == {"1": "a dog, barking", "2": "NA"}


def test_lines_of_json_are_read_too(tmp_path):
    rows = [{"id": "1", "answer": "rain"}, {"id": "2", "answer": None}]
    path = written(tmp_path, "".join(f"{json.dumps(row)}\n" for row in rows), "a.jsonl")

    assert read_answers(path, ["1", "2"]) == {"1": "rain", "2": ""}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,answer\n1,a\n1,b\n", "row 2 answers '1' again"),
        ("id,answer\n9,a\n", r"1 answers of other ids, the first 9; ids of the samples are 1, 2"),
        ("id,answer\n", "has no answer"),
        ("id,text\n1,a\n", r"the column 'answer' 0 times, not once: 'id', 'text'"),
        ("id,answer,Answer\n1,a,b\n", r"the column 'answer' 2 times"),
    ],
)
def test_a_file_that_is_not_the_answers_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as refused:
        read_answers(written(tmp_path, text), ["1", "2"])

    assert "\n" not in str(refused.value)


def test_a_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"answers are read from \.parquet, \.csv, \.jsonl"):
        read_answers(written(tmp_path, "", "a.txt"), ["1"])


def test_half_a_surrogate_pair_is_refused(tmp_path):
    path = written(tmp_path, '{"id": "1", "answer": "\\ud83d"}\n', "a.jsonl")

    with pytest.raises(DataError, match="row 1 holds half a surrogate pair"):
        read_answers(path, ["1"])
