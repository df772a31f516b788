"""Checkpoints of a run: their format, the store that keeps them, restoring, and uploads in the background.

A checkpoint is the folder ``step-00000120`` with ``trained.safetensors``, ``moments.safetensors``,
``state.json``, ``records.jsonl`` (the metrics so far, in case the driver dies before it has written them)
and, written last, ``COMMITTED.json`` with the size and SHA-256 of the others: a copy that was cut off is
recognised whatever order its files arrived in. A checkpoint without that marker does not count.

DeepSpeed's own checkpoints are tied to the number of workers that wrote them. What MATS trains is small, so
every checkpoint holds it consolidated, for any number of workers. Ray Train could keep checkpoints, too, but
it registers them seconds after they are written, forgets those a killed worker had just uploaded, and keeps
either the newest or the best.
"""

import hashlib
import json
import logging
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from mats_ray.config import RunConfig
from mats_ray.config.run import join
from mats_ray.errors import StorageError, TrainingError
from mats_ray.storage import download, list_files, read_bytes, remove, remove_folder, write_file
from mats_ray.train.engine import EngineState, TrainEngine
from mats_ray.train.run_state import (
    STATE,
    UNKNOWN_INPUTS,
    RunInputs,
    RunState,
    check_same_run,
    parse_run_state,
)
from mats_ray.train.tracking import Record

logger = logging.getLogger(__name__)

TRAINED, MOMENTS, RECORDS, COMMITTED = (
    "trained.safetensors",
    "moments.safetensors",
    "records.jsonl",
    "COMMITTED.json",
)
UPLOAD_ATTEMPTS = 8
"""Number of attempts to write a file: an outage of half a minute is survived."""
_FOLDER = re.compile(r"step-(\d{8,})")


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
    run = parse_run_state(json.loads((directory / STATE).read_text("utf-8")))
    return EngineState(load_file(directory / TRAINED), load_file(directory / MOMENTS), run.step), run


def check_architecture(state: EngineState, parameters: Mapping[str, Tensor], *, where: str) -> None:
    """Refuse a checkpoint of another architecture.

    Args:
        state: State of the checkpoint.
        parameters: Parameters trained now, by name; only shapes are compared.
        where: Subject of the error message.

    Raises:
        TrainingError: Counts the differences and names the first.
    """
    stored = {name: tuple(tensor.shape) for name, tensor in state.trained.items()}
    wanted = {name: tuple(getattr(tensor, "ds_shape", tensor.shape)) for name, tensor in parameters.items()}
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


@dataclass(frozen=True, slots=True, order=True)
class Checkpoint:
    """A committed checkpoint."""

    step: int
    path: str
    """Folder or URI."""


class CheckpointStore:
    """The checkpoints of one run, in a folder or S3 prefix.

    Args:
        path: Folder or s3:// prefix.
        keep: Number of newest checkpoints to keep; the best by validation loss is kept besides.
    """

    def __init__(self, path: str, *, keep: int) -> None:
        self.path, self.keep = path.rstrip("/"), keep

    def committed(self) -> list[Checkpoint]:
        """List the committed checkpoints, oldest first."""
        return [one for one, is_committed in self._folders().items() if is_committed]

    def find(self, step: int) -> Checkpoint | None:
        """Return the checkpoint of a step, if it is committed."""
        return next((one for one in self.committed() if one.step == step), None)

    def state(self, checkpoint: Checkpoint) -> RunState:
        """Read the run state of a checkpoint, without its tensors."""
        return parse_run_state(json.loads(read_bytes(f"{checkpoint.path}/{STATE}")))

    def records(self, checkpoint: Checkpoint) -> list[Record]:
        """Read the metrics in a checkpoint; none if it is damaged or an earlier version wrote it."""
        try:
            return [json.loads(line) for line in read_bytes(f"{checkpoint.path}/{RECORDS}").splitlines()]
        except (StorageError, ValueError):
            return []

    def download(self, checkpoint: Checkpoint, scratch: Path) -> tuple[EngineState, RunState]:
        """Download a checkpoint into an empty folder and read it.

        Raises:
            TrainingError: It is not what was committed, or cannot be fetched.
        """
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            download(checkpoint.path, scratch)
        except StorageError as error:
            raise TrainingError(f"the checkpoint {checkpoint.path} cannot be read: {error}") from error
        return load_checkpoint(scratch)

    def read(self, checkpoint: Checkpoint) -> tuple[EngineState, RunState]:
        """Read a checkpoint and leave no file behind.

        Raises:
            TrainingError: See ``download``.
        """
        with tempfile.TemporaryDirectory(prefix="mats-resume-") as scratch:
            return self.download(checkpoint, Path(scratch))

    def read_newest(self) -> tuple[EngineState, RunState] | None:
        """Read the newest checkpoint that is not damaged; None if the run has none yet.

        Raises:
            TrainingError: All of them are damaged.
        """
        committed = self.committed()
        for checkpoint in reversed(committed):
            try:
                return self.read(checkpoint)
            except TrainingError as error:
                if checkpoint == committed[0]:
                    raise
                logger.warning("%s; going back to the one before", error)
        return None

    def put(self, folder: Path, step: int) -> Checkpoint:
        """Upload a checkpoint folder, its marker last, then remove the ones that need not be kept.

        Raises:
            TrainingError: It could not be written after several attempts; earlier checkpoints are unchanged.
        """
        checkpoint = Checkpoint(step, f"{self.path}/step-{step:08d}")
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        try:
            for name in sorted(names, key=lambda name: (name == COMMITTED, name)):
                write_file(f"{checkpoint.path}/{name}", folder / name, attempts=UPLOAD_ATTEMPTS)
            self._prune()
        except StorageError as error:
            raise TrainingError(self._failure(checkpoint, error)) from error
        return checkpoint

    def _prune(self) -> None:
        """Remove old checkpoints, marker first, and the remains of interrupted uploads."""
        folders = self._folders()
        committed = [one for one, is_committed in folders.items() if is_committed]
        kept = set(committed[-self.keep :])
        losses = {one: loss for one in committed if (loss := self.state(one).validation_loss) is not None}
        if losses:
            kept.add(min(losses, key=lambda one: (losses[one], one.step)))
        for one in folders:
            if one.step < committed[-1].step and one not in kept:
                remove(f"{one.path}/{COMMITTED}")
                remove_folder(one.path)

    def _folders(self) -> dict[Checkpoint, bool]:
        """List all checkpoint folders, oldest first, and whether each is committed."""
        found: dict[Checkpoint, bool] = {}
        for file in list_files(self.path):
            name, _, inner = file.name.partition("/")
            if match := _FOLDER.fullmatch(name):
                checkpoint = Checkpoint(int(match[1]), f"{self.path}/{name}")
                found[checkpoint] = found.get(checkpoint, False) or inner == COMMITTED
        return dict(sorted(found.items()))

    def _failure(self, checkpoint: Checkpoint, error: StorageError) -> str:
        try:
            before = [one.step for one in self.committed() if one.step < checkpoint.step]
        except StorageError:
            before = []
        rest = f"the one of step {before[-1]} is intact" if before else "no earlier one is known"
        return f"the checkpoint of step {checkpoint.step} could not be written: {error}; {rest}"


def open_store(config: RunConfig) -> CheckpointStore:
    """Open the store of a run's checkpoints."""
    return CheckpointStore(join(config.run_dir, "checkpoints"), keep=config.train.checkpoint.keep)


def restore(
    engine: TrainEngine,
    state: EngineState,
    run: RunState,
    config: RunConfig,
    inputs: RunInputs = UNKNOWN_INPUTS,
) -> None:
    """Load a checkpoint into an engine.

    Raises:
        TrainingError: It belongs to another run, other inputs or another architecture.
    """
    check_same_run(run, config, inputs)
    where = f"the checkpoint of step {run.step} of the run {config.name!r}"
    check_architecture(state, engine.trained_parameters, where=where)
    engine.load_state(state)


class CheckpointUploader:
    """Puts checkpoints into a store from its own thread, one at a time, while training goes on."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def submit(self, folder: Path, step: int) -> None:
        """Upload a folder and then remove it; waits for the previous upload first.

        Raises:
            TrainingError: The previous one could not be written.
        """
        self.wait()
        self._thread = threading.Thread(target=self._put, args=(folder, step), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            TrainingError: It could not be.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            raise self._error

    def _put(self, folder: Path, step: int) -> None:
        try:
            self._store.put(folder, step)
        except Exception as error:  # noqa: BLE001 (any error: a thread that ends silently loses a run)
            self._error = error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
