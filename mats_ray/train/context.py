"""Where a training loop runs: the ``TrainContext`` protocol, and a local form of it without any framework."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class TrainContext(Protocol):
    """Rank, the way out for metrics, and the way to and from checkpoints."""

    rank: int
    num_workers: int

    def log(self, record: dict[str, float]) -> None:
        """Take one metrics record of the first worker."""
        ...

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Hand over a checkpoint folder (first worker) and metrics; every worker calls it equally often."""
        ...


@dataclass
class LocalContext:
    """One process: records stay in memory, checkpoint folders where they were written."""

    rank: int = 0
    num_workers: int = 1
    records: list[dict[str, float]] = field(default_factory=list)
    checkpoints: list[Path] = field(default_factory=list)

    def log(self, record: dict[str, float]) -> None:
        """See ``TrainContext``."""
        self.records.append(record)

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:  # noqa: ARG002 (protocol)
        """See ``TrainContext``."""
        if checkpoint is not None:
            self.checkpoints.append(checkpoint)
