"""Which prompts each file of a batch job has.

A manifest may have a prompt of its own for every file, so this is one list of pairs and not a table of files
and prompts. Shapes: F files, K pairs of file and prompt.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mats_ray.caption.rows import Prompt
from mats_ray.errors import ConfigError
from mats_ray.tasks import Task, instruction_for
from mats_ray.text import check_unicode

Questions = Sequence[str] | Mapping[str, Sequence[str]]
"""Questions about every file, or by path about each file."""

CAPTION = Prompt(Task.CAPTION, instruction_for(Task.CAPTION))


@dataclass(frozen=True, eq=False)
class PromptPlan:
    """Pairs of file and prompt, file by file; each file has at least one."""

    prompts: Sequence[Prompt]
    """All different prompts."""
    prompt_K: np.ndarray
    """Index of each pair's prompt."""
    first_F: np.ndarray
    """(F + 1,): pairs of file f are first_F[f] to first_F[f + 1]."""

    @classmethod
    def of(cls, prompts_F: Sequence[Sequence[Prompt]]) -> "PromptPlan":
        """Make the plan of files with prompts of their own."""
        index = dict[Prompt, int]()
        numbers = [index.setdefault(prompt, len(index)) for prompts in prompts_F for prompt in prompts]
        return cls(
            prompts=list(index),
            prompt_K=np.array(numbers, np.int32),
            first_F=np.cumsum([0, *map(len, prompts_F)]),
        )

    @classmethod
    def uniform(cls, prompts: Sequence[Prompt], num_files: int) -> "PromptPlan":
        """Make the plan of files that all have the same prompts."""
        return cls(
            prompts=prompts,
            prompt_K=np.tile(np.arange(len(prompts), dtype=np.int32), num_files),
            first_F=np.arange(num_files + 1) * len(prompts),
        )

    def files(self) -> np.ndarray:
        """Return the index of each pair's file: (K,)."""
        return np.repeat(np.arange(len(self.first_F) - 1), np.diff(self.first_F))


class PromptRules:
    """Prompts of a file: a caption, its own questions, the shared ones, and the labels.

    A file without a question of any kind is captioned.

    Args:
        shared: Questions about every file.
        labels: Every file is compared with them, where there are any.
        caption: Whether files with questions or labels are captioned, too.

    Raises:
        ConfigError: A question is empty, or a question or label is not valid Unicode.
    """

    def __init__(
        self, *, shared: Sequence[str] = (), labels: Sequence[str] = (), caption: bool = False
    ) -> None:
        self._common = [*_questions(shared), *([classification(labels)] if labels else [])]
        self._captions = [CAPTION] if caption else []

    def of_file(self, questions: Sequence[str] = (), *, again: bool = False) -> list[Prompt]:
        """List a file's prompts.

        Args:
            questions: Its own; an empty one is no question.
            again: The file was planned before: only what these questions add, possibly nothing.
        """
        own = _questions(one for one in questions if one)
        if not self._common and (len(own) < len(questions) or not questions):
            own = [CAPTION, *own]
        prompts = list(dict.fromkeys([*self._captions, *own, *self._common]))
        planned = {*self._captions, *self._common} if again else ()
        return [one for one in prompts if one not in planned]


def classification(labels: Sequence[str]) -> Prompt:
    """Make the prompt of a set of labels; another set, or another order, is another prompt."""
    for label in labels:
        check_unicode(label, "a label")
    digest = hashlib.sha256("\n".join(labels).encode()).hexdigest()[:12]
    return Prompt(Task.CLASSIFICATION, f"one of {len(labels)} labels ({digest})", tuple(labels))


def _questions(questions: Iterable[str]) -> list[Prompt]:
    questions = list(questions)
    if not all(question.strip() for question in questions):
        raise ConfigError("a question is empty")
    return [Prompt(Task.QA, instruction_for(Task.QA, question)) for question in questions]
