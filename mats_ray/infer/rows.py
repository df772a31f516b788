"""The rows a batch job writes: one per file and prompt, answered or not.

Pure functions; the schema is the contract with whoever reads the output.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mats_ray.config.infer import GenerationConfig
from mats_ray.errors import AudioError, ConfigError, DataError
from mats_ray.tasks import Task, instruction_for
from mats_ray.types import Answer

OK, ERROR = "ok", "error"

SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),  # absolute path or URI of the audio
        pa.field("etag", pa.string(), nullable=False),  # which content of it was heard
        pa.field("segment_start_s", pa.float64()),  # what part of it; null where it could not be decoded
        pa.field("segment_end_s", pa.float64()),
        pa.field("status", pa.string(), nullable=False),  # ok | error
        pa.field("error_code", pa.string()),  # see errors.AudioError
        pa.field("error", pa.string()),
        pa.field("task", pa.string(), nullable=False),  # caption | qa
        pa.field("prompt", pa.string(), nullable=False),  # the instruction or question
        pa.field("caption", pa.string()),
        pa.field("answer", pa.string()),  # of a question
        pa.field("model_id", pa.string(), nullable=False),
        pa.field("decoding", pa.string(), nullable=False),
        pa.field("num_tokens", pa.int32()),
    ]
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked of every file."""

    task: Task
    instruction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Respondent:
    """Who answers: rows of another one do not count as done."""

    model_id: str
    generation: GenerationConfig

    @property
    def decoding(self) -> str:
        """The decoding settings in a few words, for the row."""
        return f"{self.generation.profile}, at most {self.generation.max_new_tokens} tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The part of a file that one row is about."""

    path: str
    etag: str
    seconds: float | None = None
    """Length; None where the file could not be decoded."""


Questions = Sequence[str] | Mapping[str, Sequence[str]]
"""Asked of every file, or of each file (by its path) its own."""


def prompts_for(questions: Questions) -> list[Prompt]:
    """Return the questions, each once, or the caption prompt where there are none.

    Raises:
        ConfigError: A question is empty.
    """
    if not questions:
        return [Prompt(Task.CAPTION, instruction_for(Task.CAPTION))]
    if isinstance(questions, Mapping):
        questions = [question for own in questions.values() for question in own]
    if not all(question.strip() for question in questions):
        raise ConfigError("a question is empty")
    return [Prompt(Task.QA, text) for text in dict.fromkeys(instruction_for(Task.QA, q) for q in questions)]


def ok_row(source: Source, prompt: Prompt, respondent: Respondent, answer: Answer) -> dict[str, Any]:
    """Build the row of an answered prompt."""
    column = "answer" if prompt.task is Task.QA else "caption"
    return _row(source, prompt, respondent, status=OK, num_tokens=answer.num_tokens) | {column: answer.text}


def error_row(source: Source, prompt: Prompt, respondent: Respondent, error: AudioError) -> dict[str, Any]:
    """Build the row of a file that could not be used."""
    return _row(source, prompt, respondent, status=ERROR, error_code=error.code, error=str(error))


def to_table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Turn rows into a table of the schema."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def _row(source: Source, prompt: Prompt, respondent: Respondent, **said: Any) -> dict[str, Any]:
    return {
        "path": source.path,
        "etag": source.etag,
        "segment_start_s": None if source.seconds is None else 0.0,
        "segment_end_s": source.seconds,
        "task": prompt.task.value,
        "prompt": prompt.instruction,
        "model_id": respondent.model_id,
        "decoding": respondent.decoding,
        **said,
    }


def wanted_pairs(paths: Sequence[str], prompts: Sequence[Prompt], questions: Questions) -> np.ndarray:
    """Say which prompt each file is asked: (files, prompts) bool.

    Raises:
        DataError: Questions are given for a path that is not among the files.
    """
    wanted_FP = np.ones((len(paths), len(prompts)), dtype=bool)
    if not isinstance(questions, Mapping):
        return wanted_FP
    if strangers := sorted(set(questions) - set(paths)):
        raise DataError(
            f"{len(strangers)} paths with questions are not among the audio: first {strangers[0]}"
        )
    own = [{question.strip() for question in questions.get(path, ())} for path in paths]
    return np.array([[prompt.instruction in asked for prompt in prompts] for asked in own], dtype=bool)
