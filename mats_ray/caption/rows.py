"""Output rows of a batch job: one per file and prompt (or per window of a file and prompt), answered or not.

Pure functions; the schema is the contract with the readers of the output.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import pyarrow as pa

from mats_ray.config.generation import GenerationConfig
from mats_ray.data.manifest import ManifestRow
from mats_ray.errors import CodedError
from mats_ray.infer.classification import Match
from mats_ray.tasks import Task
from mats_ray.types import Answer

OK, ERROR = "ok", "error"

NUM_SCORES = 10
"""Maximum number of labels with scores in a row."""

_SCORE = pa.struct([("label", pa.string()), ("score", pa.float64()), ("similarity", pa.float64())])

SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),  # absolute path or URI of the audio
        pa.field("listed_path", pa.string()),  # as the manifest has it
        pa.field("etag", pa.string(), nullable=False),  # version of its content
        pa.field("segment_start_s", pa.float64()),  # part of it; null where it could not be decoded
        pa.field("segment_end_s", pa.float64()),
        pa.field("segment", pa.int32(), nullable=False),  # 0, 1, ...: the windows of a file, in order
        pa.field("is_last_segment", pa.bool_(), nullable=False),  # a file's rows are complete with this one
        pa.field("status", pa.string(), nullable=False),  # ok | error
        pa.field("error_code", pa.string()),  # see errors.CodedError
        pa.field("error", pa.string()),
        pa.field("task", pa.string(), nullable=False),  # caption | qa | classification
        pa.field("prompt", pa.string(), nullable=False),  # the instruction or question
        pa.field("caption", pa.string()),
        pa.field("answer", pa.string()),  # to a question; the best label
        pa.field("scores", pa.list_(_SCORE)),  # of the best labels, the best first
        pa.field("model_id", pa.string(), nullable=False),
        pa.field("decoding", pa.string(), nullable=False),
        pa.field("num_tokens", pa.int32()),
        pa.field("manifest", pa.string()),  # other columns of the manifest's row, as a JSON object
    ]
)


PROMPT = pa.struct([("task", pa.string()), ("instruction", pa.string())])
"""A prompt between the stages; all classifications of a job have the same labels."""

MANIFEST_COLUMNS = ["listed_path", "manifest"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """An instruction or question about a file."""

    task: Task
    instruction: str
    labels: tuple[str, ...] = ()
    """Labels of a classification."""

    @classmethod
    def from_value(cls, value: Mapping[str, str], labels: Sequence[str] = ()) -> Self:
        """Read a value of the type ``PROMPT``."""
        task = Task(value["task"])
        return cls(task, value["instruction"], tuple(labels) if task is Task.CLASSIFICATION else ())

    @property
    def value(self) -> dict[str, str]:
        """It as a value of the type ``PROMPT``."""
        return {"task": self.task.value, "instruction": self.instruction}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Model and settings that a row comes from; rows of another provenance do not count as done."""

    model_id: str
    generation: GenerationConfig
    windows: str = ""
    """How files are cut into windows, where they are."""

    @property
    def decoding(self) -> str:
        """Generation settings and windows in a few words: the column ``decoding``."""
        settings = f"{self.generation.profile}, at most {self.generation.max_new_tokens} tokens"
        return f"{settings}; {self.windows}" if self.windows else settings


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


@dataclass(frozen=True, slots=True)
class RowError:
    """An error as it stands in a row, and between the stages before it."""

    code: str
    message: str

    @classmethod
    def of(cls, error: CodedError) -> Self:
        """Keep what a row needs of an error."""
        return cls(error.code, str(error))


def ok_row(source: Source, prompt: Prompt, provenance: Provenance, answer: Answer) -> dict[str, Any]:
    """Build the row of an answered prompt."""
    column = "answer" if prompt.task is Task.QA else "caption"
    return _row(source, prompt, provenance, status=OK, num_tokens=answer.num_tokens) | {column: answer.text}


def label_row(
    source: Source, prompt: Prompt, provenance: Provenance, matches: Sequence[Match]
) -> dict[str, Any]:
    """Build the row of a classified clip; its matches have the best first."""
    scores = [asdict(match) for match in matches[:NUM_SCORES]]
    return _row(source, prompt, provenance, status=OK, answer=matches[0].label, scores=scores)


def error_row(source: Source, prompt: Prompt, provenance: Provenance, error: RowError) -> dict[str, Any]:
    """Build the row of a file that cannot be used, or of a prompt that cannot be answered."""
    return _row(source, prompt, provenance, status=ERROR, error_code=error.code, error=error.message)


def to_table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Turn rows into a table of the schema."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def with_manifest(table: pa.Table, manifest: Mapping[str, Sequence[ManifestRow]]) -> pa.Table:
    """Set the columns ``listed_path`` and ``manifest`` of output rows.

    A question of the manifest has its own row's columns, any other prompt those of the first row of its file.

    Args:
        table: Rows with the columns path, prompt, listed_path and manifest.
        manifest: Rows of the manifest by path; rows of other paths stay as they are.
    """
    if not manifest:
        return table
    names = ["path", "prompt", *MANIFEST_COLUMNS]
    filled = [_listed(row, manifest.get(row["path"], ())) for row in table.select(names).to_pylist()]
    for place, name in enumerate(MANIFEST_COLUMNS):
        column = pa.array([one[place] for one in filled], pa.string())
        table = table.set_column(table.schema.get_field_index(name), SCHEMA.field(name), column)
    return table


def _listed(row: dict[str, Any], listed: Sequence[ManifestRow]) -> tuple[str | None, str | None]:
    if not listed:
        return row["listed_path"], row["manifest"]
    found = next((one for one in listed if one.question.strip() == row["prompt"]), listed[0])
    return found.path, found.columns


def _row(source: Source, prompt: Prompt, provenance: Provenance, **outcome: Any) -> dict[str, Any]:
    return {
        "path": source.path,
        "etag": source.etag,
        "segment_start_s": source.start_s,
        "segment_end_s": source.end_s,
        "segment": source.segment,
        "is_last_segment": source.is_last,
        "task": prompt.task.value,
        "prompt": prompt.instruction,
        "model_id": provenance.model_id,
        "decoding": provenance.decoding,
        **outcome,
    }
