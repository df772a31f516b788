"""Half a surrogate pair is found before it reaches a tokenizer or a file."""

import pytest

from mats_ray.errors import ConfigError
from mats_ray.tasks import Task, instruction_for
from mats_ray.text import check_unicode, is_valid_unicode


def test_half_a_surrogate_pair_is_found_wherever_it_stands():
    assert is_valid_unicode({"a": ["\N{DOG}", {"b": "café", "c": None}], "d": 1})
    for bad in ("\ud83d", ["a", "\udce9"], {"\ud83d": 1}, {"a": {"b": ["\ud83d"]}}):
        assert not is_valid_unicode(bad)


def test_a_text_that_cannot_be_written_is_refused_in_a_line_that_can():
    check_unicode("café \N{DOG}", "the question")
    with pytest.raises(ConfigError, match=r"the question is not valid Unicode .*: 'Is it \\ud83d'") as caught:
        instruction_for(Task.QA, "Is it \ud83d")

    str(caught.value).encode()
