"""Where a training loop runs: the ``TrainContext`` protocol, and a local form of it without any framework."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Record = dict[str, float]
Sample = dict[str, str]
"""One generation: ``id``, ``instruction``, ``answer`` (the right one) and ``generated``."""


class TrainContext(Protocol):
    """Rank, the way out for metrics, and the way out for checkpoints."""

    rank: int
    num_workers: int

    def enter(self, stage: str, step: int) -> None:
        """Say what comes next: should it hang, that is what will be named."""
        ...

    def log(self, record: Record, samples: Sequence[Sample] = ()) -> None:
        """Take one metrics record, and what the model says to fixed questions; the first worker's count."""
        ...

    def keep(self, checkpoint: Path, step: int) -> None:
        """Take a checkpoint folder over; the first worker calls it, and it may go on in the background."""
        ...


@dataclass
class LocalContext:
    """One process: records stay in memory, checkpoint folders where they were written."""

    rank: int = 0
    num_workers: int = 1
    records: list[Record] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    checkpoints: list[Path] = field(default_factory=list)
    stages: list[tuple[str, int]] = field(default_factory=list)

    def enter(self, stage: str, step: int) -> None:
        """See ``TrainContext``."""
        self.stages.append((stage, step))

    def log(self, record: Record, samples: Sequence[Sample] = ()) -> None:
        """See ``TrainContext``."""
        self.records.append(record)
        self.samples += samples

    def keep(self, checkpoint: Path, step: int) -> None:  # noqa: ARG002 (protocol)
        """See ``TrainContext``."""
        self.checkpoints.append(checkpoint)
