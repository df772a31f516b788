"""Every file has its own questions, the shared ones, or is captioned."""

import pytest

from mats_ray.caption.prompts import CAPTION, PromptPlan, PromptRules, classification
from mats_ray.caption.rows import Prompt
from mats_ray.errors import ConfigError
from mats_ray.tasks import Task

DOG, RAIN = Prompt(Task.QA, "Dog?"), Prompt(Task.QA, "Rain?")


def plan_of(paths, *, per_file=None, **rules):
    rules, per_file = PromptRules(**rules), per_file or {}
    return PromptPlan.of([rules.of_file(per_file.get(path, ())) for path in paths])


def prompts_of(paths, **questions):
    plan = plan_of(paths, **questions)
    bounds = zip(plan.first_F[:-1], plan.first_F[1:], strict=True)
    return [[plan.prompts[n] for n in plan.prompt_K[start:stop]] for start, stop in bounds]


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
    plan = plan_of(["a", "b"], per_file={"b": ["Rain?"]}, shared=["Dog?"])

    assert [plan.prompts[n] for n in plan.prompt_K] == [DOG, RAIN, DOG]
    assert (plan.first_F.tolist(), plan.files().tolist()) == ([0, 1, 3], [0, 1, 1])


def test_files_with_the_same_prompts_need_no_list_for_each():
    uniform, listed = PromptPlan.uniform([DOG, RAIN], 3), PromptPlan.of([[DOG, RAIN]] * 3)

    assert uniform.prompts == listed.prompts
    assert uniform.prompt_K.tolist() == listed.prompt_K.tolist()
    assert uniform.first_F.tolist() == listed.first_F.tolist()


def test_a_row_without_a_question_is_a_caption_unless_there_are_shared_questions():
    assert PromptRules().of_file(["", "Dog?"]) == [CAPTION, DOG]
    assert PromptRules(shared=["Rain?"]).of_file(["", "Dog?"]) == [DOG, RAIN]


def test_a_file_that_was_planned_before_has_only_what_is_new():
    assert PromptRules().of_file(["Dog?"], again=True) == [DOG]
    assert PromptRules().of_file([""], again=True) == [CAPTION]
    assert PromptRules(shared=["Rain?"], caption=True).of_file(["Dog?"], again=True) == [DOG]
    assert PromptRules(shared=["Rain?"]).of_file(["Dog?", " Rain? "], again=True) == [DOG]
    assert PromptRules(shared=["Rain?"]).of_file([""], again=True) == []
    assert PromptRules(caption=True).of_file([""], again=True) == []


def test_a_question_for_each_of_many_files_needs_no_table():
    paths = [str(n) for n in range(50_000)]
    plan = plan_of(paths, per_file={path: [f"Is this {path}?"] for path in paths})

    assert (len(plan.prompts), len(plan.prompt_K)) == (50_000, 50_000)


@pytest.mark.parametrize("questions", [[""], ["Dog?", "  "]])
def test_an_empty_question_is_refused(questions):
    with pytest.raises(ConfigError, match="question is empty"):
        PromptRules(shared=questions)
