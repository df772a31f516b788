r"""The four tasks of AudioTIA, Vicuna's prompt, and what a request is. Standard library only.

Prompt (upstream ``MATS-LLaMA``, paper section 3.2), the audio prefix standing between the two halves;
language models with a chat template have another (``models/prompt_format.py``)::

    <s>USER: <Speech>[prefix vectors]</Speech> {instruction}\nASSISTANT:
"""

from enum import StrEnum

from mats_ray.text import check_unicode


class Task(StrEnum):
    """A task on an audio clip; its value is the ``task`` column of a triplet."""

    CAPTION = "caption"
    MUSIC_CAPTION = "music_caption"
    CLASSIFICATION = "classification"
    QA = "qa"


INSTRUCTIONS = {
    Task.CAPTION: "Describe the following audio in a caption.",
    Task.MUSIC_CAPTION: "Listen to this music clip and describe the music.",
    Task.CLASSIFICATION: "Identify the sounds in the audio clip, only display audio tags.",
}
"""Upstream's wording; a question (``Task.QA``) is its own instruction."""

PROMPT_BEFORE = "USER: <Speech>"
PROMPT_AFTER = "</Speech> {instruction}\nASSISTANT:"

NO_CLIP = (
    "a request is about one audio clip, this one has none: the model has only learnt to answer behind a clip."
    " Send the clip with the text; ask a language model what is not about a sound"
)


def several_clips(count: int) -> str:
    """Say why a request with several clips is refused, and what to do instead."""
    return (
        f"a request is about one audio clip, this one has {count}: the model has only learnt to hear one at "
        "a time. Send a request for each clip and compare the answers; or join the clips into one file, which"
        " is heard as one sound"
    )


def instruction_for(task: Task, question: str | None = None) -> str:
    """Return the instruction text of a task.

    Raises:
        ValueError: ``Task.QA`` without a question, or another task with one.
        ConfigError: The question is not valid Unicode.
    """
    if task is Task.QA:
        if not question or not question.strip():
            raise ValueError("the task 'qa' needs a question, got none")
        check_unicode(question, "the question")
        return question.strip()
    if question is not None:
        raise ValueError(f"the task '{task.value}' accepts no question, got {question!r}; use 'qa'")
    return INSTRUCTIONS[task]


def prompt_halves(instruction: str) -> tuple[str, str]:
    """Split the prompt where the audio prefix goes: (text before, text after), without BOS."""
    return PROMPT_BEFORE, PROMPT_AFTER.format(instruction=instruction)
