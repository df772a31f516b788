"""Experiment trackers, besides ``metrics.jsonl``: TensorBoard, Weights & Biases, MLflow."""

import hashlib
import importlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from mats_ray.config import RunConfig
from mats_ray.config.run import join
from mats_ray.config.train import TrackerName
from mats_ray.errors import ConfigError
from mats_ray.storage import list_files, remove, upload

Record = dict[str, float]
"""Metrics by name; always with ``step``."""
Sample = dict[str, str]
"""One generation: ``id``, ``instruction``, ``answer`` (the reference) and ``generated``."""
FLUSH_SECONDS = 1
"""Longest delay of event files behind ``metrics.jsonl``."""


class Tracker(Protocol):
    """Receives the metrics of a run."""

    def restart(self) -> None:
        """Discard what was logged: every record of the run so far is logged again, in order."""
        ...

    def log(self, record: Record, samples: Sequence[Sample]) -> None:
        """Log one record with its ``step``, and generated samples."""
        ...

    def close(self) -> None:
        """Write what is not written yet."""
        ...


def open_trackers(config: RunConfig) -> list[Tracker]:
    """Open the trackers in ``train.trackers``.

    Raises:
        ConfigError: A package is not installed.
    """
    return [_TRACKERS[name](config) for name in config.train.trackers]


def check_trackers(config: RunConfig) -> None:
    """Fail before workers start.

    Raises:
        ConfigError: A package is not installed.
    """
    for name in config.train.trackers:
        _package(_PACKAGES[name], name)


class TensorBoard:
    """Event files below the run's folder; for S3 they are written here and copied there.

    Event files can only grow, and a killed process leaves the end of its own unwritten. So a restart replaces
    them: each step is there once.
    """

    def __init__(self, config: RunConfig) -> None:
        target = join(join(config.runs_dir, config.name), "tensorboard")
        self._target = target if "://" in target else None
        self._folder = tempfile.mkdtemp(prefix="mats-tensorboard-") if self._target else target
        self._writer: Any = None

    def restart(self) -> None:
        """See ``Tracker``."""
        if self._writer is not None:
            self._writer.close()
        for folder in filter(None, (self._target, self._folder)):
            _remove_event_files(folder)
        tensorboard = _package("tensorboardX", "tensorboard")
        self._writer = tensorboard.SummaryWriter(self._folder, flush_secs=FLUSH_SECONDS)

    def log(self, record: Record, samples: Sequence[Sample]) -> None:
        """See ``Tracker``."""
        step = int(record["step"])
        for key, value in _scalars(record).items():
            self._writer.add_scalar(key, value, step)
        if samples:
            self._writer.add_text("samples", "\n\n".join(map(as_line, samples)), step)
            self._upload()

    def close(self) -> None:
        """See ``Tracker``."""
        if self._writer is not None:
            self._writer.close()
            self._upload()

    def _upload(self) -> None:
        if self._target:
            upload(Path(self._folder), self._target)


def _remove_event_files(folder: str) -> None:
    for file in list_files(folder, recursive=False):
        if file.name.startswith("events.out.tfevents."):
            remove(file.path)


class WandB:
    """Weights & Biases; a resumed run continues the same curve, which has each step once."""

    def __init__(self, config: RunConfig) -> None:
        wandb = _package("wandb", "wandb")
        run_id = hashlib.sha256(f"{config.runs_dir}/{config.name}".encode()).hexdigest()[:16]
        tree = config.model_dump(mode="json")
        self._run: Any = wandb.init(
            project="mats_ray", name=config.name, id=run_id, resume="allow", config=tree
        )

    def restart(self) -> None:
        """See ``Tracker``; W&B itself keeps the next step."""

    def log(self, record: Record, samples: Sequence[Sample]) -> None:
        """See ``Tracker``."""
        if int(record["step"]) < self._run.step:
            return
        text = {"samples": "\n".join(map(as_line, samples))} if samples else {}
        self._run.log({**_scalars(record), **text}, step=int(record["step"]))

    def close(self) -> None:
        """See ``Tracker``."""
        self._run.finish()


class MLflow:
    """MLflow at ``MLFLOW_TRACKING_URI``, experiment mats_ray; a resumed run logs all its steps anew."""

    def __init__(self, config: RunConfig) -> None:
        self._mlflow: Any = _package("mlflow", "mlflow")
        self._mlflow.set_experiment("mats_ray")
        self._mlflow.start_run(run_name=config.name)
        self._mlflow.log_dict(config.model_dump(mode="json"), "config.json")
        self._last = 0

    def restart(self) -> None:
        """See ``Tracker``; MLflow cannot discard what was logged."""

    def log(self, record: Record, samples: Sequence[Sample]) -> None:
        """See ``Tracker``."""
        step = int(record["step"])
        if step <= self._last:
            return
        self._last = step
        self._mlflow.log_metrics(_scalars(record), step=step)
        if samples:
            self._mlflow.log_text("\n".join(map(as_line, samples)), f"samples/{step:08d}.txt")

    def close(self) -> None:
        """See ``Tracker``."""
        self._mlflow.end_run()


def as_line(sample: Sample) -> str:
    """Write one generation as a line."""
    return f"{sample['instruction']} | generated: {sample['generated']} | reference: {sample['answer']}"


def _scalars(record: Record) -> Record:
    return {key: value for key, value in record.items() if key != "step"}


def _package(package: str, tracker: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"train.trackers names {tracker!r}, but {package} is not installed: pip install {package}"
        ) from error


_TRACKERS: dict[TrackerName, type[TensorBoard | WandB | MLflow]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
}
_PACKAGES: dict[TrackerName, str] = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
