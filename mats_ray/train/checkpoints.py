"""All checkpoints of a run in one folder or S3 prefix: which count, which stay, and how one gets there.

A checkpoint is the folder ``step-00000120``; it counts once its ``COMMITTED.json`` is there, which is
uploaded last. Ray Train could keep checkpoints, too, but it registers them seconds after they are written,
forgets those a killed worker had just uploaded, and keeps either the newest or the best. Nothing in here
knows Ray.
"""

import json
import re
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from mats_ray.errors import StorageError, TrainingError
from mats_ray.storage import download, list_files, read_bytes, remove, remove_folder, write_file
from mats_ray.train.context import Record
from mats_ray.train.engine import EngineState
from mats_ray.train.state import COMMITTED, RECORDS, STATE, RunState, load_checkpoint, run_state

ATTEMPTS = 8
"""To write a file: an outage of half a minute is outlived."""
_FOLDER = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True, slots=True, order=True)
class Stored:
    """A committed checkpoint."""

    step: int
    path: str
    """Folder or URI."""


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        path: Folder or s3:// prefix.
        keep: Newest ones that stay; the best by validation loss stays besides.
    """

    def __init__(self, path: str, *, keep: int) -> None:
        self.path, self.keep = path.rstrip("/"), keep

    def committed(self) -> list[Stored]:
        """List what counts, oldest first."""
        return [one for one, is_committed in self._folders().items() if is_committed]

    def find(self, step: int) -> Stored | None:
        """Return the checkpoint of a step, if it counts."""
        return next((one for one in self.committed() if one.step == step), None)

    def state(self, stored: Stored) -> RunState:
        """Read where a checkpoint stands, without its tensors."""
        return run_state(json.loads(read_bytes(f"{stored.path}/{STATE}")))

    def records(self, stored: Stored) -> list[Record]:
        """Read the metrics a checkpoint remembers; none if it is damaged or an earlier version wrote it."""
        try:
            return [json.loads(line) for line in read_bytes(f"{stored.path}/{RECORDS}").splitlines()]
        except (StorageError, ValueError):
            return []

    def load(self, stored: Stored, scratch: Path) -> tuple[EngineState, RunState]:
        """Download a checkpoint into a folder of its own and read it.

        Raises:
            TrainingError: It is not what was committed, or cannot be fetched.
        """
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            download(stored.path, scratch)
        except StorageError as error:
            raise TrainingError(f"the checkpoint {stored.path} cannot be read: {error}") from error
        return load_checkpoint(scratch)

    def put(self, folder: Path, step: int) -> Stored:
        """Upload a checkpoint folder, its mark last, then remove what need not stay.

        Raises:
            TrainingError: It could not be written after several tries; earlier checkpoints are as they were.
        """
        stored = Stored(step, f"{self.path}/step-{step:08d}")
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        try:
            for name in sorted(names, key=lambda name: (name == COMMITTED, name)):
                write_file(f"{stored.path}/{name}", folder / name, attempts=ATTEMPTS)
            self._prune()
        except StorageError as error:
            raise TrainingError(self._gave_up(stored, error)) from error
        return stored

    def _prune(self) -> None:
        """Remove old ones, mark first, and what an interrupted upload left behind."""
        folders = self._folders()
        committed = [one for one, is_committed in folders.items() if is_committed]
        staying = set(committed[-self.keep :])
        losses = {one: loss for one in committed if (loss := self.state(one).validation_loss) is not None}
        if losses:
            staying.add(min(losses, key=lambda one: (losses[one], one.step)))
        for one in folders:
            if one.step < committed[-1].step and one not in staying:
                remove(f"{one.path}/{COMMITTED}")
                remove_folder(one.path)

    def _folders(self) -> dict[Stored, bool]:
        """List what is there, oldest first, and whether it counts."""
        found: dict[Stored, bool] = {}
        for file in list_files(self.path):
            name, _, inner = file.name.partition("/")
            if match := _FOLDER.fullmatch(name):
                stored = Stored(int(match[1]), f"{self.path}/{name}")
                found[stored] = found.get(stored, False) or inner == COMMITTED
        return dict(sorted(found.items()))

    def _gave_up(self, stored: Stored, error: StorageError) -> str:
        try:
            before = [one.step for one in self.committed() if one.step < stored.step]
        except StorageError:
            before = []
        rest = f"the one of step {before[-1]} is intact" if before else "no earlier one is known"
        return f"the checkpoint of step {stored.step} could not be written: {error}; {rest}"


class Uploader:
    """Puts checkpoints into a store from a thread of its own, one at a time, while training goes on."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def submit(self, folder: Path, step: int) -> None:
        """Take a folder over; waits while the last one is still on its way.

        Raises:
            TrainingError: The last one could not be written.
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
        except Exception as error:  # noqa: BLE001 (whatever it was: a thread that ends in silence loses a run)
            self._error = error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
