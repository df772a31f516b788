"""The values that many programs write in many words."""

import json

import pytest

from mats_ray.data.annotations.cell_values import (
    boolean,
    is_missing_text,
    split_of_folders,
    string_list,
    text_or_missing,
)


@pytest.mark.parametrize("cell", ["True", "TRUE", "true", " t ", "1", "1.0", "Yes", "y"])
def test_true_is_read_as_every_program_writes_it(cell):
    assert boolean(cell) is True


@pytest.mark.parametrize("cell", ["False", "FALSE", "f", "0", "0.0", "No", "n"])
def test_false_is_read_as_every_program_writes_it(cell):
    assert boolean(cell) is False


@pytest.mark.parametrize("cell", ["", "2", "-1", "maybe", "nan", "wahr", "truefalse"])
def test_what_is_no_boolean_is_not_guessed(cell):
    assert boolean(cell) is None


@pytest.mark.parametrize(
    "cell",
    [
        "['low quality', 'noise', \"don't\"]",
        "('low quality', 'noise', \"don't\",)",
        json.dumps(["low quality", "noise", "don't"]),
        "['low quality' 'noise'\n \"don't\"]",
    ],
)
def test_a_list_is_read_as_python_json_and_numpy_print_it(cell):
    assert string_list(cell) == ("low quality", "noise", "don't")


@pytest.mark.parametrize(
    "cell",
    [
        *("", "[]", "x", "['a', 1]", "['a' 'b', 'c']", "['a', 'b' 'c']", "['a' ... 'z']", "['a',, 'b']"),
        *("['a', 'b'", "'a', 'b'", "[b'a']", "['a', None]", "['a', 'nan']", "['a', '']", "['a'] + ['b']"),
        *("__import__('os')", "[f'{1}']", "['a', ['b']]", "array(['a'], dtype=object)", "\ud83d", "['''a]"),
    ],
)
def test_what_is_no_list_of_strings_or_not_all_of_one_is_refused(cell):
    assert string_list(cell) is None


def test_none_may_be_an_answer_but_no_caption():
    assert text_or_missing("none") == "none"
    assert is_missing_text("none")


@pytest.mark.parametrize("value", [None, 1, float("nan"), ["a"], "", " ", "nan", "None", "null", "<NA>"])
def test_a_missing_field_is_empty(value):
    assert text_or_missing(value) == ""


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("a/test/x.wav", "test"),
        ("nsynth-valid/x", "val"),
        ("contest/x.wav", ""),
        ("test.wav", ""),
        ("train/x", ""),
    ],
)
def test_a_folder_may_name_the_split(path, split):
    assert split_of_folders(path) == split
