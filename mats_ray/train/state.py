"""Checkpoints of a run: small, independent of the number of workers, complete or refused.

A folder with ``trained.safetensors``, ``moments.safetensors``, ``state.json``, ``records.jsonl`` (the metrics
so far, should the driver die before it has written them) and, written last, ``COMMITTED.json``, which holds
the size and SHA-256 of the others: a copy that was cut off is recognised whatever order its files arrived in.

DeepSpeed's own checkpoints are tied to the number of workers that wrote them. What MATS trains is small, so
every checkpoint holds it consolidated; any number of workers can go on from it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from mats_ray.errors import TrainingError
from mats_ray.train.engine import EngineState

TRAINED, MOMENTS, STATE, RECORDS, COMMITTED = (
    "trained.safetensors",
    "moments.safetensors",
    "state.json",
    "records.jsonl",
    "COMMITTED.json",
)


@dataclass(frozen=True, slots=True)
class RunInputs:
    """What a run is trained from, wherever it lies."""

    fingerprints: Mapping[str, str] = field(default_factory=dict[str, str])
    """Fingerprints of embedded triplets, CLAP and base model, by configuration key."""
    rows: Mapping[str, int] = field(default_factory=dict[str, int])
    """Rows trained on, by source."""


UNKNOWN_INPUTS = RunInputs()


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands."""

    step: int
    """Updates done."""
    samples: int
    """Samples of the stream consumed: step x global batch size."""
    run_hash: str
    """Of everything that decides the course of the run; a checkpoint of another course is refused."""
    version: str
    validation_loss: float | None = None
    """Of these weights, where there is validation data: the best checkpoint is kept."""
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What decides the course of the run, by key, without paths; empty where only the hash is known."""
    inputs: RunInputs = UNKNOWN_INPUTS
    """A checkpoint of other inputs is refused."""


def save_checkpoint(
    directory: Path, engine: EngineState, run: RunState, records: Iterable[Mapping[str, float]] = ()
) -> None:
    """Write a checkpoint folder, commit marker last."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in engine.trained.items()}, directory / TRAINED)
    save_file({name: t.contiguous() for name, t in engine.moments.items()}, directory / MOMENTS)
    (directory / STATE).write_text(json.dumps(asdict(run), indent=2) + "\n", "utf-8")
    lines = [json.dumps(dict(record)) + "\n" for record in records]
    (directory / RECORDS).write_text("".join(lines), "utf-8")
    marker = {name: _fingerprint(directory / name) for name in (TRAINED, MOMENTS, STATE, RECORDS)}
    (directory / COMMITTED).write_text(json.dumps(marker, indent=2) + "\n", "utf-8")


def load_checkpoint(directory: Path) -> tuple[EngineState, RunState]:
    """Read a checkpoint folder.

    Raises:
        TrainingError: It was never committed, or a file is missing, cut off or altered.
    """
    try:
        marker = json.loads((directory / COMMITTED).read_text("utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise TrainingError(
            f"the checkpoint {directory} was not finished: {COMMITTED} is unreadable"
        ) from error
    for name, expected in marker.items():
        if not (directory / name).is_file():
            raise TrainingError(f"the checkpoint {directory} lacks {name}")
        if (found := _fingerprint(directory / name)) != expected:
            raise TrainingError(
                f"{directory / name} is not what was committed: {found['bytes']} bytes instead of "
                f"{expected['bytes']} (cut off or altered)"
            )
    run = run_state(json.loads((directory / STATE).read_text("utf-8")))
    return EngineState(load_file(directory / TRAINED), load_file(directory / MOMENTS), run.step), run


def run_state(tree: dict[str, Any]) -> RunState:
    """Build what ``state.json`` says.

    Raises:
        TrainingError: It was written by a version with other fields.
    """
    try:
        return RunState(**{**tree, "inputs": RunInputs(**tree.get("inputs", {}))})
    except TypeError as error:
        raise TrainingError(f"{STATE} of mats_ray {tree.get('version')} cannot be read: {error}") from error


def check_fits(state: EngineState, named: Mapping[str, Tensor], *, where: str) -> None:
    """Refuse a checkpoint of another architecture.

    Args:
        state: From ``load_checkpoint``.
        named: What is trained now, by name; only shapes are looked at.
        where: Of the checkpoint.

    Raises:
        TrainingError: Counts the differences and names the first.
    """
    stored = {name: tuple(tensor.shape) for name, tensor in state.trained.items()}
    wanted = {name: tuple(getattr(tensor, "ds_shape", tensor.shape)) for name, tensor in named.items()}
    differing = sorted(name for name in stored.keys() | wanted.keys() if stored.get(name) != wanted.get(name))
    if differing:
        first = differing[0]
        raise TrainingError(
            f"{where} is of another architecture: {len(differing)} of {len(wanted)} tensors differ, first "
            f"{first}: {stored.get(first, 'absent')} there, {wanted.get(first, 'absent')} here"
        )


def _fingerprint(path: Path) -> dict[str, int | str]:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
