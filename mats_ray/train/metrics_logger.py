"""Metrics of a run on the driver: a thread that polls them for progress, ``metrics.jsonl`` and trackers."""

import json
import threading
from collections.abc import Callable, Sequence

from mats_ray.errors import DataError
from mats_ray.progress import Progress
from mats_ray.storage import read_bytes, write_bytes
from mats_ray.train.tracking import Record, Sample, Tracker

POLL_SECONDS = 1.0
SAMPLES = "samples.jsonl"
LogEntry = tuple[Record, Sequence[Sample]]


class MetricsLogger:
    """Context manager around a run.

    Args:
        poll: Returns the log entries from an index on.
        path: Path of ``metrics.jsonl``; records of an interrupted run are kept, later ones of a step replace
            them. Generated samples lie beside it in ``samples.jsonl``.
        label: Text of the progress line.
        num_steps: Number of steps of the run.
        log_every: Number of steps between records: the first record shows where the run started.
        trackers: Receive every record, too, each step once.
        checkpoint_records: Records in the checkpoint the run resumes from: a driver that was killed had
            written most of them.
    """

    def __init__(
        self,
        poll: Callable[[int], list[LogEntry]],
        *,
        path: str,
        label: str,
        num_steps: int,
        log_every: int,
        trackers: Sequence[Tracker] = (),
        checkpoint_records: Sequence[Record] = (),
    ) -> None:
        self._poll_records, self._path, self._seen = poll, path, 0
        self._trackers = trackers
        self._samples_path = path.rsplit("/", 1)[0] + "/" + SAMPLES
        self._samples = _read_samples(self._samples_path)
        self._log_every = log_every
        self._by_step = read_records(path)
        self._tracked = 0
        self._unwritten = [
            record for record in checkpoint_records if int(record["step"]) not in self._by_step
        ]
        self._progress = Progress(label, total=num_steps, unit="step")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll_regularly, daemon=True)

    @property
    def last(self) -> Record:
        """The newest record."""
        return self._by_step[max(self._by_step)] if self._by_step else {}

    def __enter__(self) -> "MetricsLogger":
        self._progress.__enter__()
        self._write(self._unwritten)
        self._track_all()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._poll()
        self._track_all()  # including records of an interrupted run beyond the end of this one
        for tracker in self._trackers:
            tracker.close()
        self._progress.__exit__(None, None, None)

    def _poll_regularly(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._poll()

    def _poll(self) -> None:
        new = self._poll_records(self._seen)
        for record, samples in new:
            step = int(record["step"])
            if self._seen == 0:
                self._progress.start_at((step - 1) // self._log_every * self._log_every)
            self._seen += 1
            if samples:
                self._samples[step] = [json.dumps({"step": step, **sample}) for sample in samples]
            self._progress.update(step, note=_note(record))
            self._by_step[step] = record
            self._track(step)
        self._write([record for record, _ in new])
        if any(samples for _, samples in new):
            by_step = sorted(self._samples.items())
            _write_lines(self._samples_path, [line for _, lines in by_step for line in lines])

    def _track_all(self) -> None:
        if self._by_step and max(self._by_step) > self._tracked:
            self._track(max(self._by_step))

    def _track(self, step: int) -> None:
        """Bring trackers to a step; from the start if they have it: it was repeated after a restart."""
        if step <= self._tracked or self._tracked == 0:
            self._tracked = 0
            for tracker in self._trackers:
                tracker.restart()
        for one in sorted(known for known in self._by_step if self._tracked < known <= step):
            samples = [json.loads(line) for line in self._samples.get(one, ())]
            for tracker in self._trackers:
                tracker.log(self._by_step[one], samples)
        self._tracked = step

    def _write(self, records: Sequence[Record]) -> None:
        self._by_step |= {int(record["step"]): record for record in records}
        if records:
            _write_lines(self._path, [json.dumps(self._by_step[step]) for step in sorted(self._by_step)])


def _note(record: Record) -> str:
    """Format a record for the progress line; a record may hold a validation loss only."""
    formats = {
        "loss": "loss {:.3f}",
        "validation_loss": "held out {:.3f}",
        "lr": "lr {:.1e}",
        "samples_per_s": "{:.0f} samples/s",
    }
    return "  ".join(form.format(record[key]) for key, form in formats.items() if key in record)


def read_records(path: str) -> dict[int, Record]:
    """Read a ``metrics.jsonl`` by step; empty if there is none.

    Raises:
        DataError: A line is no record.
    """
    try:
        records = [json.loads(line) for line in _read_lines(path)]
        return {int(record["step"]): record for record in records}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} holds a line that is no metrics record: {error!r}") from error


def _read_samples(path: str) -> dict[int, list[str]]:
    by_step: dict[int, list[str]] = {}
    for line in _read_lines(path):
        by_step.setdefault(int(json.loads(line)["step"]), []).append(line)
    return by_step


def _read_lines(path: str) -> list[str]:
    try:
        return read_bytes(path).decode().splitlines()
    except FileNotFoundError:
        return []


def _write_lines(path: str, lines: Sequence[str]) -> None:
    """Replace a file atomically: a reader, or a run resumed after a kill, finds the old or the new one."""
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
