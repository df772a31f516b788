import pytest

from mats_ray.tasks import INSTRUCTIONS, NO_CLIP, Task, instruction_for, prompt_halves, several_clips


def test_the_prompt_is_the_one_upstream_was_trained_with():
    before, after = prompt_halves("How many dogs bark?")

    assert before == "USER: <Speech>"
    assert after == "</Speech> How many dogs bark?\nASSISTANT:"


@pytest.mark.parametrize("task", [task for task in Task if task is not Task.QA])
def test_every_task_but_qa_has_an_instruction_of_its_own(task):
    assert instruction_for(task) == INSTRUCTIONS[task]


def test_instructions_of_tasks_differ():
    assert len(set(INSTRUCTIONS.values())) == len(Task) - 1


def test_a_question_is_its_own_instruction():
    assert instruction_for(Task.QA, "  How many dogs bark?\n") == "How many dogs bark?"


def test_braces_in_a_question_are_text():
    _, after = prompt_halves(instruction_for(Task.QA, "Is {instruction} or {0} said?"))

    assert "Is {instruction} or {0} said?" in after


@pytest.mark.parametrize("question", [None, "", " \n"])
def test_qa_without_a_question_is_refused(question):
    with pytest.raises(ValueError, match="'qa' needs a question"):
        instruction_for(Task.QA, question)


def test_a_question_for_another_task_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'caption' accepts no question, got 'What\?'"):
        instruction_for(Task.CAPTION, "What?")


def test_a_task_is_the_string_in_the_task_column():
    assert [str(task) for task in Task] == ["caption", "music_caption", "classification", "qa"]
    assert Task("qa") is Task.QA


def test_what_is_not_about_one_clip_is_refused_in_one_line_with_a_remedy():
    assert "this one has 3" in several_clips(3)
    assert "Send a request for each clip" in several_clips(3)
    assert "Send the clip with the text" in NO_CLIP
    assert not any("\n" in line for line in (NO_CLIP, several_clips(3)))
