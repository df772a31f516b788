"""Instructions for training, several per task, drawn by seed and row id.

The first of each list is the one used at inference (``mats_ray.tasks.INSTRUCTIONS``); the others keep the
model from depending on one wording. A question is its own instruction.
"""

from mats_ray.data.triplets import row_key
from mats_ray.tasks import INSTRUCTIONS, Task

INSTRUCTION_VARIANTS: dict[Task, tuple[str, ...]] = {
    Task.CAPTION: (
        INSTRUCTIONS[Task.CAPTION],
        "Write one sentence that says what can be heard.",
        "What is going on in this recording? Answer with a caption.",
        "Sum up the sounds of this clip in a short sentence.",
        "Give a caption for the audio.",
        "Tell briefly what this audio contains.",
    ),
    Task.MUSIC_CAPTION: (
        INSTRUCTIONS[Task.MUSIC_CAPTION],
        "Describe this piece of music: style, instruments and mood.",
        "What does this music sound like? Answer in a few sentences.",
        "Write a description of the music in this recording.",
        "Give a caption for this piece of music.",
        "Tell what kind of music this is and what is played.",
    ),
    Task.CLASSIFICATION: (
        INSTRUCTIONS[Task.CLASSIFICATION],
        "Name the classes of sound in this audio, as tags only.",
        "Which labels fit this recording? List them.",
        "Tag this audio clip.",
        "What is it that sounds here? Answer with labels only.",
        "Label the sounds of this recording.",
    ),
}


def draw_instruction(task: Task, *, seed: int, row_id: str) -> str:
    """Return the instruction of a row: the same for the same seed and id, whatever else is read.

    Raises:
        KeyError: ``Task.QA``, whose instruction is the question.
    """
    return pick(INSTRUCTION_VARIANTS[task], "prompt", seed=seed, row_id=row_id)


def pick(choices: tuple[str, ...], purpose: str, *, seed: int, row_id: str) -> str:
    """Draw one of some strings by (seed, purpose, row id)."""
    return choices[row_key(f"{seed}:{purpose}:{row_id}") % len(choices)]
