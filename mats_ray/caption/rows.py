"""The rows a batch job writes: one per file and prompt (or window of a file and prompt), answered or not.

Pure functions; the schema is the contract with whoever reads the output.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from mats_ray.config.generation import GenerationConfig
from mats_ray.errors import CodedError
from mats_ray.infer.classification import Match
from mats_ray.tasks import Task
from mats_ray.types import Answer

OK, ERROR = "ok", "error"

NUM_SCORES = 10
"""Labels with scores that a row keeps at most."""

_SCORE = pa.struct([("label", pa.string()), ("score", pa.float64()), ("similarity", pa.float64())])

SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),  # absolute path or URI of the audio
        pa.field("etag", pa.string(), nullable=False),  # which content of it was heard
        pa.field("segment_start_s", pa.float64()),  # what part of it; null where it could not be decoded
        pa.field("segment_end_s", pa.float64()),
        pa.field("segment", pa.int32(), nullable=False),  # 0, 1, ...: the windows of a file, in order
        pa.field("is_last_segment", pa.bool_(), nullable=False),  # a file's rows are complete with this one
        pa.field("status", pa.string(), nullable=False),  # ok | error
        pa.field("error_code", pa.string()),  # see errors.CodedError
        pa.field("error", pa.string()),
        pa.field("task", pa.string(), nullable=False),  # caption | qa | classification
        pa.field("prompt", pa.string(), nullable=False),  # the instruction or question
        pa.field("caption", pa.string()),
        pa.field("answer", pa.string()),  # of a question; the best label
        pa.field("scores", pa.list_(_SCORE)),  # of the best labels, the best first
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
    labels: tuple[str, ...] = ()
    """What a classification chooses from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Respondent:
    """Who answers: rows of another one do not count as done."""

    model_id: str
    generation: GenerationConfig
    hearing: str = ""
    """How files are cut into what is heard, where it is not the whole."""

    @property
    def decoding(self) -> str:
        """The decoding settings in a few words, for the row."""
        said = f"{self.generation.profile}, at most {self.generation.max_new_tokens} tokens"
        return f"{said}; {self.hearing}" if self.hearing else said


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The part of a file that one row is about."""

    path: str
    etag: str
    start_s: float | None = None
    """None, as its end, where the file could not be decoded at all."""
    end_s: float | None = None
    segment: int = 0
    is_last: bool = True


def ok_row(source: Source, prompt: Prompt, respondent: Respondent, answer: Answer) -> dict[str, Any]:
    """Build the row of an answered prompt."""
    column = "answer" if prompt.task is Task.QA else "caption"
    return _row(source, prompt, respondent, status=OK, num_tokens=answer.num_tokens) | {column: answer.text}


def label_row(
    source: Source, prompt: Prompt, respondent: Respondent, matches: Sequence[Match]
) -> dict[str, Any]:
    """Build the row of a classified sound; its matches have the best first."""
    scores = [asdict(one) for one in matches[:NUM_SCORES]]
    return _row(source, prompt, respondent, status=OK, answer=matches[0].label, scores=scores)


def error_row(source: Source, prompt: Prompt, respondent: Respondent, error: CodedError) -> dict[str, Any]:
    """Build the row of a file that could not be used, or of a prompt that cannot be answered."""
    return _row(source, prompt, respondent, status=ERROR, error_code=error.code, error=str(error))


def to_table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Turn rows into a table of the schema."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def _row(source: Source, prompt: Prompt, respondent: Respondent, **said: Any) -> dict[str, Any]:
    return {
        "path": source.path,
        "etag": source.etag,
        "segment_start_s": source.start_s,
        "segment_end_s": source.end_s,
        "segment": source.segment,
        "is_last_segment": source.is_last,
        "task": prompt.task.value,
        "prompt": prompt.instruction,
        "model_id": respondent.model_id,
        "decoding": respondent.decoding,
        **said,
    }
