"""All checkpoints of a run in one folder or S3 prefix: which count, which stay, and how one gets there.

A checkpoint is the folder ``step-00000120``; it counts once its ``COMMITTED.json`` is there, which is
uploaded last. Ray Train could keep checkpoints, too, but it registers them seconds after they are written,
forgets those a killed worker had just uploaded, and keeps either the newest or the best. Nothing in here
knows Ray.
"""

import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from mats_ray.data.storage import locate
from mats_ray.errors import TrainingError
from mats_ray.train.context import Record
from mats_ray.train.engine import EngineState
from mats_ray.train.state import COMMITTED, RECORDS, STATE, RunState, load_checkpoint, run_state

logger = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Waits between tries: an outage of half a minute is outlived."""
_FOLDER = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True, slots=True, order=True)
class Stored:
    """A committed checkpoint."""

    step: int
    path: str
    """Inside the store's file system."""


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        path: Folder or s3:// prefix.
        keep: Newest ones that stay; the best by validation loss stays besides.
        retry_seconds: Waits between tries.
        sleep: Waits; tests bring their own.
    """

    def __init__(
        self,
        path: str,
        *,
        keep: int,
        retry_seconds: Sequence[float] = RETRY_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.path, self.keep = path, keep
        self._files, self._root = locate(path)
        self._retry_seconds, self._sleep = retry_seconds, sleep

    def uri(self, stored: Stored) -> str:
        """Return where a checkpoint lies, as a user would write it."""
        return f"{self.path.rstrip('/')}/{stored.path.rsplit('/', 1)[1]}"

    def committed(self) -> list[Stored]:
        """List what counts, oldest first."""
        return [one for one in self._folders() if self._is_file(f"{one.path}/{COMMITTED}")]

    def find(self, step: int) -> Stored | None:
        """Return the checkpoint of a step, if it counts."""
        return next((one for one in self.committed() if one.step == step), None)

    def state(self, stored: Stored) -> RunState:
        """Read where a checkpoint stands, without its tensors."""
        with self._files.open_input_file(f"{stored.path}/{STATE}") as source:
            return run_state(json.loads(source.read()))

    def records(self, stored: Stored) -> list[Record]:
        """Read the metrics a checkpoint remembers; none if it is damaged or an earlier version wrote it."""
        try:
            with self._files.open_input_file(f"{stored.path}/{RECORDS}") as source:
                return [json.loads(line) for line in source.read().splitlines()]
        except (OSError, ValueError):
            return []

    def load(self, stored: Stored, scratch: Path) -> tuple[EngineState, RunState]:
        """Download a checkpoint into a folder of its own and read it.

        Raises:
            TrainingError: It is not what was committed, or cannot be fetched.
        """
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            fs.copy_files(
                stored.path,
                str(scratch),
                source_filesystem=self._files,
                destination_filesystem=fs.LocalFileSystem(),
            )
        except OSError as error:
            raise TrainingError(f"the checkpoint {self.uri(stored)} cannot be read: {error}") from error
        return load_checkpoint(scratch)

    def put(self, folder: Path, step: int) -> Stored:
        """Upload a checkpoint folder, its mark last, then remove what need not stay.

        Raises:
            TrainingError: It could not be written after several tries; earlier checkpoints are as they were.
        """
        stored = Stored(step, f"{self._root}/step-{step:08d}")
        for wait in (*self._retry_seconds, None):
            try:
                self._upload(folder, stored.path)
                self._prune()
            except OSError as error:
                if wait is None:
                    raise TrainingError(self._gave_up(stored, error)) from error
                logger.warning("checkpoint of step %d: %s; trying again in %g s", step, error, wait)
                self._sleep(wait)
            else:
                return stored
        raise AssertionError("the last try returns or raises")

    def _upload(self, folder: Path, target: str) -> None:
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        names.sort(key=COMMITTED.__eq__)
        for parent in sorted({f"{target}/{name}".rsplit("/", 1)[0] for name in names}):
            self._files.create_dir(parent, recursive=True)  # four requests to S3
        for name in names:
            with self._files.open_output_stream(f"{target}/{name}") as sink:
                sink.write((folder / name).read_bytes())

    def _prune(self) -> None:
        """Remove old ones, mark first, and what an interrupted upload left behind."""
        committed = self.committed()
        staying = set(committed[-self.keep :])
        losses = {one: loss for one in committed if (loss := self.state(one).validation_loss) is not None}
        if losses:
            staying.add(min(losses, key=lambda one: (losses[one], one.step)))
        for one in self._folders():
            if one.step < committed[-1].step and one not in staying:
                if self._is_file(f"{one.path}/{COMMITTED}"):
                    self._files.delete_file(f"{one.path}/{COMMITTED}")
                self._files.delete_dir(one.path)

    def _folders(self) -> list[Stored]:
        found = self._files.get_file_info(fs.FileSelector(self._root, allow_not_found=True))
        matches = [(_FOLDER.fullmatch(one.base_name), one.path) for one in found]
        return sorted(Stored(int(match[1]), path) for match, path in matches if match)

    def _is_file(self, path: str) -> bool:
        return self._files.get_file_info(path).type == fs.FileType.File

    def _gave_up(self, stored: Stored, error: OSError) -> str:
        try:
            before = [one.step for one in self.committed() if one.step < stored.step]
        except OSError:
            before = []
        rest = f"the one of step {before[-1]} is intact" if before else "no earlier one is known"
        return (
            f"the checkpoint of step {stored.step} could not be written to {self.uri(stored)} in "
            f"{len(self._retry_seconds) + 1} tries: {error}; {rest}"
        )


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
