"""Every file is asked its own, what all are asked, or for a caption."""

import pytest

from mats_ray.caption.prompts import CAPTION, ask, classification
from mats_ray.caption.rows import Prompt
from mats_ray.errors import ConfigError, DataError
from mats_ray.tasks import Task

DOG, RAIN = Prompt(Task.QA, "Dog?"), Prompt(Task.QA, "Rain?")


def asked_of(paths, **what):
    asked = ask(paths, **what)
    return [[asked.prompts[index] for index in asked.of_file(file)] for file in range(len(paths))]


def test_without_questions_every_file_is_captioned():
    assert asked_of(["a", "b"]) == [[CAPTION], [CAPTION]]


def test_questions_are_asked_once_each_in_order():
    assert asked_of(["a", "b"], everyone=["Dog?", " Rain? ", "Dog?"]) == [[DOG, RAIN]] * 2


def test_a_file_has_its_own_questions_first():
    assert asked_of(["a", "b", "c"], own={"b": ["Rain?"]}) == [[CAPTION], [RAIN], [CAPTION]]
    assert asked_of(["a", "b"], own={"b": ["Rain?"]}, everyone=["Dog?"]) == [[DOG], [RAIN, DOG]]


def test_labels_are_a_prompt_of_their_set():
    ((label, *rest),) = asked_of(["a"], labels=["dog", "rain"])

    assert (label.task, label.labels, rest) == (Task.CLASSIFICATION, ("dog", "rain"), [])
    assert asked_of(["a"], everyone=["Dog?"], labels=["dog", "rain"]) == [[DOG, label]]
    assert label.instruction != classification(["dog", "rain", "bell"]).instruction


def test_pairs_are_numbered_file_by_file():
    asked = ask(["a", "b"], own={"b": ["Rain?"]}, everyone=["Dog?"])
    dog, rain = asked.prompts.index(DOG), asked.prompts.index(RAIN)

    assert [asked.pair(0, dog), asked.pair(0, rain), asked.pair(1, rain), asked.pair(1, dog)] == [
        0,
        None,
        1,
        2,
    ]


def test_a_question_for_each_of_many_files_takes_no_table():
    paths = [str(n) for n in range(50_000)]
    asked = ask(paths, own={path: [f"Is this {path}?"] for path in paths})

    assert (len(asked.prompts), len(asked.prompt_K)) == (50_000, 50_000)


@pytest.mark.parametrize("questions", [[""], ["Dog?", "  "]])
def test_an_empty_question_is_refused(questions):
    with pytest.raises(ConfigError, match="question is empty"):
        ask(["a"], everyone=questions)


def test_questions_for_strangers_are_refused():
    with pytest.raises(DataError, match="1 paths with questions are not among the audio: first z"):
        ask(["a"], own={"z": ["Dog?"]})
