"""Every file has its own questions, the shared ones, or is captioned."""

import pytest

from mats_ray.caption.prompts import CAPTION, classification, plan_prompts
from mats_ray.caption.rows import Prompt
from mats_ray.errors import ConfigError, DataError
from mats_ray.tasks import Task

DOG, RAIN = Prompt(Task.QA, "Dog?"), Prompt(Task.QA, "Rain?")


def prompts_of(paths, **questions):
    plan = plan_prompts(paths, **questions)
    return [[plan.prompts[index] for index in plan.of_file(file)] for file in range(len(paths))]


def test_without_questions_every_file_is_captioned():
    assert prompts_of(["a", "b"]) == [[CAPTION], [CAPTION]]


def test_each_question_is_a_prompt_once_in_order():
    assert prompts_of(["a", "b"], shared=["Dog?", " Rain? ", "Dog?"]) == [[DOG, RAIN]] * 2


def test_a_file_has_its_own_questions_first():
    assert prompts_of(["a", "b", "c"], per_file={"b": ["Rain?"]}) == [[CAPTION], [RAIN], [CAPTION]]
    assert prompts_of(["a", "b"], per_file={"b": ["Rain?"]}, shared=["Dog?"]) == [[DOG], [RAIN, DOG]]


def test_labels_are_a_prompt_of_their_set():
    ((label, *rest),) = prompts_of(["a"], labels=["dog", "rain"])

    assert (label.task, label.labels, rest) == (Task.CLASSIFICATION, ("dog", "rain"), [])
    assert prompts_of(["a"], shared=["Dog?"], labels=["dog", "rain"]) == [[DOG, label]]
    assert label.instruction != classification(["dog", "rain", "bell"]).instruction


def test_a_caption_is_the_first_prompt_beside_questions_and_labels_where_it_is_wanted():
    label = classification(["dog", "rain"])

    found = prompts_of(
        ["a", "b"], caption=True, shared=["Dog?"], per_file={"b": ["Rain?"]}, labels=label.labels
    )
    assert found == [[CAPTION, DOG, label], [CAPTION, RAIN, DOG, label]]
    assert prompts_of(["a"], caption=True) == [[CAPTION]]


def test_pairs_are_numbered_file_by_file():
    plan = plan_prompts(["a", "b"], per_file={"b": ["Rain?"]}, shared=["Dog?"])
    dog, rain = plan.prompts.index(DOG), plan.prompts.index(RAIN)

    assert [plan.pair(0, dog), plan.pair(0, rain), plan.pair(1, rain), plan.pair(1, dog)] == [
        0,
        None,
        1,
        2,
    ]


def test_a_question_for_each_of_many_files_needs_no_table():
    paths = [str(n) for n in range(50_000)]
    plan = plan_prompts(paths, per_file={path: [f"Is this {path}?"] for path in paths})

    assert (len(plan.prompts), len(plan.prompt_K)) == (50_000, 50_000)


@pytest.mark.parametrize("questions", [[""], ["Dog?", "  "]])
def test_an_empty_question_is_refused(questions):
    with pytest.raises(ConfigError, match="question is empty"):
        plan_prompts(["a"], shared=questions)


def test_questions_about_other_files_are_refused():
    with pytest.raises(DataError, match="1 paths with questions are not among the audio: first z"):
        plan_prompts(["a"], per_file={"z": ["Dog?"]})
