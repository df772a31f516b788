"""The log of one benchmark's evaluation: a header, and a row for every sample. Scores are computed from it.

OUT/<benchmark>/evaluation.json   header: benchmark, model, prompt, decoding, what was read, versions
OUT/<benchmark>/answers/          rows of the batch job, where a model answered
OUT/<benchmark>/samples.parquet   a row per sample: references, prompt, answer, status
OUT/<benchmark>/scores.json       what the scorers make of it
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from mats_ray.errors import ConfigError, DataError
from mats_ray.evaluate.benchmark import Record, Sample
from mats_ray.evaluate.header import Header
from mats_ray.storage import exists, list_files, make_folder, read_bytes, reading_parquet, write_bytes

HEADER, SAMPLES, SCORES, ANSWERS = "evaluation.json", "samples.parquet", "scores.json", "answers"
GAP = "gap.json"

Status = Literal["ok", "empty", "error", "missing"]
"""State of a sample: answered; answered without a word; audio not usable; no audio, or no answer."""

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),  # of its audio as published
        pa.field("audio", pa.string()),  # path or URI of its file; null where there is none
        pa.field("question", pa.string(), nullable=False),
        pa.field("references", pa.list_(pa.string()), nullable=False),
        pa.field("choices", pa.list_(pa.string()), nullable=False),
        pa.field("categories", pa.string(), nullable=False),  # a JSON object
        pa.field("prompt", pa.string(), nullable=False),  # the instruction as the model got it
        pa.field("answer", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # ok | empty | error | missing
        pa.field("error_code", pa.string()),
        pa.field("error", pa.string()),
        pa.field("prediction", pa.string()),  # label or choice the answer was matched to
        pa.field("score", pa.float64()),  # of the main measure, where it is a mean over samples
    ]
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A sample, its audio, its prompt and its answer."""

    sample: Sample
    prompt: str
    status: Status
    audio: str | None = None
    answer: str = ""
    error_code: str | None = None
    error: str | None = None


class EvaluationLog:
    """Header and rows of one benchmark in one folder, local or remote.

    Args:
        folder: ``OUT/<benchmark>``.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder.rstrip("/")

    def path(self, name: str) -> str:
        """Return the path of one of its files."""
        return f"{self.folder}/{name}"

    def claim(self, header: Header) -> Header:
        """Write the header, or find the same evaluation begun before and return that one's.

        Raises:
            ConfigError: The folder holds another evaluation, or another model's.
        """
        make_folder(self.folder)
        if exists(self.path(HEADER)):
            found = self.header()
            ours, theirs = header.identity, found.identity
            if different := [key for key in ours if ours[key] != theirs[key]]:
                key = different[0]
                raise ConfigError(
                    f"{self.folder} holds an evaluation with {key} {theirs[key]!r}, this one has "
                    f"{ours[key]!r}; give another folder, or remove that one"
                )
            header = Header(**{**asdict(header), "created": found.created})
        self._write_json(HEADER, asdict(header))
        return header

    def header(self) -> Header:
        """Read the header.

        Raises:
            DataError: There is none, or it is not one.
        """
        tree = self._read_json(HEADER)
        try:
            return Header(**tree)
        except TypeError as error:
            raise DataError(f"{self.path(HEADER)} is no header of an evaluation: {error}") from error

    def write(self, rows: Sequence[Row], *, predictions: Sequence[str] = (), scores: Any = None) -> None:
        """Write all rows, with what the scorer found, if it has.

        Args:
            rows: In the order of the annotations.
            predictions: One per row, "" for none; empty: nothing is matched.
            scores: One per row, NaN for none; None: the main measure is no mean over samples.
        """
        columns = [_columns(row) for row in rows]
        for n, tree in enumerate(columns):
            tree["prediction"] = (predictions[n] or None) if predictions else None
            tree["score"] = None if scores is None or math.isnan(scores[n]) else float(scores[n])
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(columns, schema=SCHEMA), buffer, compression="zstd")
        write_bytes(self.path(SAMPLES), buffer.getvalue())

    def rows(self) -> list[Row]:
        """Read all rows.

        Raises:
            DataError: There are none, or they cannot be read.
        """
        data = read_bytes(self.path(SAMPLES))
        with reading_parquet(self.path(SAMPLES)):
            table = pq.read_table(io.BytesIO(data))
        if table.schema.names != SCHEMA.names:
            raise DataError(
                f"{self.path(SAMPLES)} is no log of samples; its columns are {table.schema.names}"
            )
        return [_row(tree) for tree in table.to_pylist()]

    def write_gap(self, tree: Mapping[str, float]) -> None:
        """Write ``gap.json``."""
        self._write_json(GAP, tree)

    def gap(self) -> dict[str, float]:
        """Read ``gap.json``; empty where there is none."""
        return self._read_json(GAP) if exists(self.path(GAP)) else {}

    def write_scores(self, tree: Mapping[str, Any]) -> None:
        """Write ``scores.json``."""
        self._write_json(SCORES, tree)

    def scores(self) -> dict[str, Any]:
        """Read ``scores.json``."""
        return self._read_json(SCORES)

    def _write_json(self, name: str, tree: Mapping[str, Any]) -> None:
        text = json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False)
        write_bytes(self.path(name), f"{text}\n".encode())

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads(read_bytes(self.path(name))))
        except ValueError as error:
            raise DataError(f"{self.path(name)} is not the JSON of an evaluation: {error}") from error


def record_of(row: Row) -> Record:
    """Return what scorers see of a row: an empty answer where there is none."""
    return Record(sample=row.sample, answer=row.answer if row.status == "ok" else "")


def find_logs(out: str) -> dict[str, EvaluationLog]:
    """Find the logs of an evaluation's folder, one for each of its benchmarks, by their names.

    Raises:
        DataError: There are none.
    """
    root = out.rstrip("/")
    names = sorted(
        file.name.rpartition("/")[0] for file in list_files(root) if file.name.endswith(f"/{HEADER}")
    )
    if not (names := [name for name in names if "/" not in name]):
        raise DataError(f"{out} holds no evaluation: no <benchmark>/{HEADER} in it")
    return {name: EvaluationLog(f"{root}/{name}") for name in names}


def _columns(row: Row) -> dict[str, Any]:
    sample = row.sample
    return {
        "id": sample.id,
        "name": sample.audio[0],
        "audio": row.audio,
        "question": sample.question,
        "references": list(sample.references),
        "choices": list(sample.choices),
        "categories": json.dumps(dict(sample.categories), ensure_ascii=False),
        "prompt": row.prompt,
        "answer": row.answer,
        "status": row.status,
        "error_code": row.error_code,
        "error": row.error,
    }


def _row(tree: Mapping[str, Any]) -> Row:
    sample = Sample(
        id=tree["id"],
        audio=(tree["name"],),
        references=tuple(tree["references"]),
        question=tree["question"],
        choices=tuple(tree["choices"]),
        categories=json.loads(tree["categories"]),
    )
    names = ("prompt", "status", "audio", "answer", "error_code", "error")
    return Row(sample=sample, **{name: tree[name] for name in names})
