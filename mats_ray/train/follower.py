"""The driver's view of a run: a thread that draws progress and keeps ``metrics.jsonl`` current."""

import json
import threading
from collections.abc import Callable

from pyarrow import fs

from mats_ray.data.storage import locate
from mats_ray.errors import DataError
from mats_ray.progress import Progress

POLL_SECONDS = 1.0
Record = dict[str, float]


class Follower:
    """Context manager around a run.

    Args:
        poll: Returns the records from an index on.
        path: Of ``metrics.jsonl``; records of an interrupted run are kept, later ones of a step win.
        label: Of the progress line.
        num_steps: Of the run.
        log_every: Steps between records: the first one tells where the run started.
    """

    def __init__(
        self, poll: Callable[[int], list[Record]], *, path: str, label: str, num_steps: int, log_every: int
    ) -> None:
        self._poll_records, self._path, self._seen = poll, path, 0
        self._log_every = log_every
        self._by_step = read_records(path)
        self._progress = Progress(label, total=num_steps, unit="step")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    @property
    def last(self) -> Record:
        """The newest record."""
        return self._by_step[max(self._by_step)] if self._by_step else {}

    def __enter__(self) -> "Follower":
        self._progress.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._poll()
        self._progress.__exit__(None, None, None)

    def _follow(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._poll()

    def _poll(self) -> None:
        new = self._poll_records(self._seen)
        for record in new:
            if self._seen == 0:
                self._progress.start_at((int(record["step"]) - 1) // self._log_every * self._log_every)
            self._seen += 1
            self._by_step[int(record["step"])] = record
            note = (
                f"loss {record['loss']:.3f}  lr {record['lr']:.1e}  {record['samples_per_s']:.0f} samples/s"
            )
            self._progress.update(int(record["step"]), note=note)
        if new:
            lines = [json.dumps(self._by_step[step]) for step in sorted(self._by_step)]
            _write_text(self._path, "\n".join(lines) + "\n")


def read_records(path: str) -> dict[int, Record]:
    """Read a ``metrics.jsonl`` by step; empty if there is none.

    Raises:
        DataError: A line is no record.
    """
    filesystem, inner = locate(path)
    if filesystem.get_file_info(inner).type != fs.FileType.File:
        return {}
    with filesystem.open_input_file(inner) as source:
        lines = source.read().decode().splitlines()
    try:
        records = [json.loads(line) for line in lines]
        return {int(record["step"]): record for record in records}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} holds a line that is no metrics record: {error!r}") from error


def _write_text(path: str, text: str) -> None:
    """Replace a file whole: who reads it meanwhile, or after a kill, finds the old or the new one.

    S3 does so by itself, when the stream is closed.
    """
    filesystem, inner = locate(path)
    filesystem.create_dir(inner.rsplit("/", 1)[0], recursive=True)
    local = isinstance(filesystem, fs.LocalFileSystem)
    with filesystem.open_output_stream(f"{inner}.pending" if local else inner) as sink:
        sink.write(text.encode())
    if local:
        filesystem.move(f"{inner}.pending", inner)
