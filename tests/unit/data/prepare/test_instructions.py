import pytest

from mats_ray.data.prepare.instructions import INSTRUCTION_VARIANTS, draw_instruction
from mats_ray.tasks import INSTRUCTIONS, Task

TASKS = [task for task in Task if task is not Task.QA]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_several_prompts_and_its_inference_prompt_is_among_them(task):
    assert len(set(INSTRUCTION_VARIANTS[task])) == len(INSTRUCTION_VARIANTS[task]) >= 5
    assert INSTRUCTION_VARIANTS[task][0] == INSTRUCTIONS[task]


def test_no_prompt_serves_two_tasks():
    every = [prompt for task in TASKS for prompt in INSTRUCTION_VARIANTS[task]]

    assert len(set(every)) == len(every)


@pytest.mark.parametrize("task", TASKS)
def test_all_prompts_are_drawn_about_equally_often(task):
    drawn = [draw_instruction(task, seed=3, row_id=f"clotho/train/{n}") for n in range(3_000)]

    for prompt in INSTRUCTION_VARIANTS[task]:
        assert abs(drawn.count(prompt) - 3_000 / len(INSTRUCTION_VARIANTS[task])) < 150


def test_a_prompt_follows_from_seed_and_row():
    def draw(seed):
        return [draw_instruction(Task.CAPTION, seed=seed, row_id=str(n)) for n in range(30)]

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)
