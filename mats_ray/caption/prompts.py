"""Which prompts each file is asked, and the list of all prompts there are.

A manifest may ask every file something of its own, so this is kept as one list of pairs and not as a table
of files and prompts. Shapes: F files, K pairs of file and prompt.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mats_ray.caption.rows import Prompt
from mats_ray.errors import ConfigError, DataError
from mats_ray.tasks import Task, instruction_for
from mats_ray.text import check_unicode

Questions = Sequence[str] | Mapping[str, Sequence[str]]
"""Asked of every file, or of each file (by its path) its own."""

CAPTION = Prompt(Task.CAPTION, instruction_for(Task.CAPTION))


@dataclass(frozen=True, eq=False)
class Asked:
    """Pairs of file and prompt, file by file; each file has at least one."""

    prompts: Sequence[Prompt]
    prompt_K: np.ndarray
    """Index of the prompt."""
    first_F: np.ndarray
    """(F + 1,): pairs of file f are first_F[f] to first_F[f + 1]."""

    def of_file(self, file: int) -> np.ndarray:
        """Indices of its prompts."""
        return self.prompt_K[self.first_F[file] : self.first_F[file + 1]]

    def pair(self, file: int, prompt: int) -> int | None:
        """Index of a pair; None where this file is not asked this."""
        found = np.flatnonzero(self.of_file(file) == prompt)
        return int(self.first_F[file] + found[0]) if len(found) else None


def ask(
    paths: Sequence[str],
    *,
    everyone: Sequence[str] = (),
    own: Mapping[str, Sequence[str]] | None = None,
    labels: Sequence[str] = (),
) -> Asked:
    """Put together what is asked: a file's own questions, those of every file, and the labels.

    A file that is asked nothing is captioned.

    Raises:
        ConfigError: A question is empty, or a question or label is not valid Unicode.
        DataError: Questions are given for a path that is not among the files.
    """
    own = own or {}
    _refuse_strangers(own, paths)
    common = [*_questions(everyone), *([classification(labels)] if labels else [])]
    per_file = [list(dict.fromkeys([*_questions(own.get(path, ())), *common])) or [CAPTION] for path in paths]
    index = {prompt: n for n, prompt in enumerate(dict.fromkeys(p for asked in per_file for p in asked))}
    return Asked(
        prompts=list(index),
        prompt_K=np.array([index[prompt] for asked in per_file for prompt in asked], np.int32),
        first_F=np.cumsum([0, *map(len, per_file)]),
    )


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


def _refuse_strangers(own: Mapping[str, Sequence[str]], paths: Sequence[str]) -> None:
    if strangers := sorted(set(own) - set(paths)):
        raise DataError(
            f"{len(strangers)} paths with questions are not among the audio: first {strangers[0]}"
        )
