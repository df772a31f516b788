"""Which prompts each file of a batch job has.

A manifest may have a prompt of its own for every file, so this is one list of pairs and not a table of files
and prompts. Shapes: F files, K pairs of file and prompt.
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

    def of_file(self, file: int) -> np.ndarray:
        """Return the indices of a file's prompts."""
        return self.prompt_K[self.first_F[file] : self.first_F[file + 1]]

    def pair(self, file: int, prompt: int) -> int | None:
        """Return the index of a pair; None where this file does not have this prompt."""
        found = np.flatnonzero(self.of_file(file) == prompt)
        return int(self.first_F[file] + found[0]) if len(found) else None


def plan_prompts(
    paths: Sequence[str],
    *,
    shared: Sequence[str] = (),
    per_file: Mapping[str, Sequence[str]] | None = None,
    labels: Sequence[str] = (),
    caption: bool = False,
) -> PromptPlan:
    """List the prompts of every file: a caption, its own questions, the shared ones, and the labels.

    A file without any is captioned.

    Args:
        paths: The files.
        shared: Questions about every file.
        per_file: Questions about single files, by path.
        labels: Every file is compared with them, where there are any.
        caption: Whether files with questions or labels are captioned, too.

    Raises:
        ConfigError: A question is empty, or a question or label is not valid Unicode.
        DataError: Questions are given for a path that is not among the files.
    """
    per_file = per_file or {}
    _check_paths(per_file, paths)
    common = [*_prompts(shared), *([classification(labels)] if labels else [])]
    captions = [CAPTION] if caption else []
    prompts_F = [
        list(dict.fromkeys([*captions, *_prompts(per_file.get(path, ())), *common])) or [CAPTION]
        for path in paths
    ]
    index = {prompt: n for n, prompt in enumerate(dict.fromkeys(p for prompts in prompts_F for p in prompts))}
    return PromptPlan(
        prompts=list(index),
        prompt_K=np.array([index[prompt] for prompts in prompts_F for prompt in prompts], np.int32),
        first_F=np.cumsum([0, *map(len, prompts_F)]),
    )


def classification(labels: Sequence[str]) -> Prompt:
    """Make the prompt of a set of labels; another set, or another order, is another prompt."""
    for label in labels:
        check_unicode(label, "a label")
    digest = hashlib.sha256("\n".join(labels).encode()).hexdigest()[:12]
    return Prompt(Task.CLASSIFICATION, f"one of {len(labels)} labels ({digest})", tuple(labels))


def _prompts(questions: Iterable[str]) -> list[Prompt]:
    questions = list(questions)
    if not all(question.strip() for question in questions):
        raise ConfigError("a question is empty")
    return [Prompt(Task.QA, instruction_for(Task.QA, question)) for question in questions]


def _check_paths(per_file: Mapping[str, Sequence[str]], paths: Sequence[str]) -> None:
    if unknown := sorted(set(per_file) - set(paths)):
        raise DataError(f"{len(unknown)} paths with questions are not among the audio: first {unknown[0]}")
