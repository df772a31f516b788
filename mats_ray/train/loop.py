"""The training loop, and the context it runs in; it uses neither Ray nor DeepSpeed."""

import itertools
import math
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError

from mats_ray.config import RunConfig
from mats_ray.config.train import TrainConfig
from mats_ray.errors import NotFiniteError, TrainingError
from mats_ray.models.mats import TrainBatch
from mats_ray.train.checkpoints import save_checkpoint
from mats_ray.train.engine import EngineState, StepResult, TrainEngine
from mats_ray.train.metrics import IntervalTotals, MFUMeter
from mats_ray.train.optim import dropout_seeds, learning_rate
from mats_ray.train.run_state import RunState, fresh_state, state_after
from mats_ray.train.tracking import Record, Sample
from mats_ray.train.validation import Validation

NAMED_SAMPLES = 8
CHECKPOINT_RECORDS = 1000
"""Number of newest records in a checkpoint: those a killed driver had not yet written are among them."""


class TrainContext(Protocol):
    """Rank of a worker, and where its metrics and checkpoints go."""

    rank: int
    num_workers: int

    def enter_stage(self, stage: str, step: int) -> None:
        """Start a stage; its name is in the error message if it hangs."""
        ...

    def log(self, record: Record, samples: Sequence[Sample] = ()) -> None:
        """Log one metrics record, with generated samples if there are any; only those of rank 0 are kept."""
        ...

    def store_checkpoint(self, folder: Path, step: int) -> None:
        """Store a checkpoint folder, possibly in the background; rank 0 calls it and gives up the folder."""
        ...


@dataclass
class LocalContext:
    """One process without any framework: everything stays in memory, checkpoint folders where they are."""

    rank: int = 0
    num_workers: int = 1
    records: list[Record] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    checkpoints: list[Path] = field(default_factory=list)
    stages: list[tuple[str, int]] = field(default_factory=list)

    def enter_stage(self, stage: str, step: int) -> None:
        """See ``TrainContext``."""
        self.stages.append((stage, step))

    def log(self, record: Record, samples: Sequence[Sample] = ()) -> None:
        """See ``TrainContext``."""
        self.records.append(record)
        self.samples += samples

    def store_checkpoint(self, folder: Path, step: int) -> None:  # noqa: ARG002 (protocol)
        """See ``TrainContext``."""
        self.checkpoints.append(folder)


def fit(
    engine: TrainEngine,
    batches: Iterable[TrainBatch],
    context: TrainContext,
    config: RunConfig,
    *,
    start: RunState | None = None,
    validation: Validation | None = None,
    meter: MFUMeter | None = None,
    export_model: Callable[[Path, EngineState], None] | None = None,
) -> None:
    """Train to ``config.train.num_steps``.

    Args:
        engine: Owns model and optimizer; training starts from its number of updates.
        batches: This worker's micro-batches from sample ``engine.num_updates * global_batch_size`` on.
        context: Receives metrics and checkpoints.
        config: Configuration of the run.
        start: State of the run before the first of these steps, with its inputs, for checkpoints.
        validation: This worker's part of the held-out triplets.
        meter: Adds model FLOPs utilisation to the records.
        export_model: Called by rank 0 with the folder of the last checkpoint, to write the model into it.

    Raises:
        TrainingError: The loss is not finite, or the data ended early.
    """
    train, source = config.train, iter(batches)
    totals, records = IntervalTotals(), deque[Record](maxlen=CHECKPOINT_RECORDS)
    for step in range(engine.num_updates + 1, train.num_steps + 1):
        actions, began = StepActions.after(step, train), time.monotonic()
        micro_batches, waited = _next_micro_batches(source, context, train, step=step)
        lr, result = _update(engine, micro_batches, context, config, step=step)
        totals.add(result, train.global_batch_size, seconds=time.monotonic() - began, waited=waited)
        record: Record = {"step": step}
        if actions.log:
            record |= {"lr": lr, "grad_norm": result.grad_norm, **totals.rates(meter)}
            totals = IntervalTotals()
        _log(engine, context, record, records, validation if actions.validate else None)
        if actions.checkpoint:
            _checkpoint(engine, context, start or fresh_state(), config, record, records, export_model)


@dataclass(frozen=True, slots=True)
class StepActions:
    """Actions after a step; all of them follow the last one."""

    log: bool
    validate: bool
    checkpoint: bool

    @classmethod
    def after(cls, step: int, train: TrainConfig) -> "StepActions":
        """Choose by the intervals of the configuration."""
        last = step == train.num_steps
        checkpoint = last or step % train.checkpoint.every_steps == 0
        validate = checkpoint or step % train.validation.every_steps == 0  # to find the best checkpoint
        return cls(last or step % train.log_every == 0, validate, checkpoint)


def _log(
    engine: TrainEngine,
    context: TrainContext,
    record: Record,
    records: deque[Record],
    validation: Validation | None,
) -> None:
    """Add the held-out loss if it is due, and log the record unless it is empty."""
    samples: list[Sample] = []
    if validation is not None:
        context.enter_stage("validation", int(record["step"]))
        record["validation_loss"] = validation.loss(engine)
        samples = validation.samples(engine)
    if len(record) > 1:
        record["num_workers"] = context.num_workers
        records.append(record)
        context.log(record, samples)


def _next_micro_batches(
    source: Iterator[TrainBatch], context: TrainContext, train: TrainConfig, *, step: int
) -> tuple[list[TrainBatch], float]:
    """Return this worker's micro-batches of an update, and the seconds spent waiting for them."""
    context.enter_stage("waiting for data", step)
    began = time.monotonic()
    count = train.accumulation_steps(context.num_workers)
    micro_batches = list(itertools.islice(source, count))
    if len(micro_batches) < count:
        raise TrainingError(
            f"the data ended in step {step}: {len(micro_batches)} of {count} micro-batches came"
        )
    return micro_batches, time.monotonic() - began


def _update(
    engine: TrainEngine,
    micro_batches: list[TrainBatch],
    context: TrainContext,
    config: RunConfig,
    *,
    step: int,
) -> tuple[float, StepResult]:
    train = config.train
    lr = learning_rate(step - 1, lr=train.optim.lr, num_steps=train.num_steps, schedule=train.schedule)
    seeds = dropout_seeds(
        seed=config.seed,
        step=step - 1,
        count=len(micro_batches),
        rank=context.rank,
        num_workers=context.num_workers,
    )
    context.enter_stage("forward, backward and update", step)
    result = engine.train_step(micro_batches, lr=lr, seeds=seeds)
    _check_finite(result, micro_batches, step=step)
    return lr, result


def _check_finite(result: StepResult, micro_batches: Sequence[TrainBatch], *, step: int) -> None:
    """Every worker sees the sums and stops; the one with the bad loss can name the samples."""
    if math.isfinite(result.loss_sum) and math.isfinite(result.grad_norm):
        return
    bad = [batch for batch, loss in zip(micro_batches, result.losses, strict=True) if not math.isfinite(loss)]
    ids = [row for batch in bad or micro_batches for row in batch.ids]
    more = f" and {len(ids) - NAMED_SAMPLES} more" if len(ids) > NAMED_SAMPLES else ""
    raise NotFiniteError(
        f"step {step}: loss sum {result.loss_sum} over {result.num_answer_tokens} answer tokens, "
        f"gradient norm {result.grad_norm}; among the samples {', '.join(ids[:NAMED_SAMPLES])}{more}; "
        "lower train.optim.lr or raise train.schedule.warmup_steps",
        certain=bool(bad),
    )


def _checkpoint(
    engine: TrainEngine,
    context: TrainContext,
    start: RunState,
    config: RunConfig,
    record: Record,
    records: Iterable[Record],
    export_model: Callable[[Path, EngineState], None] | None,
) -> None:
    """Collect the state on every worker, write it on rank 0, and let the context store it."""
    run = state_after(start, config, int(record["step"]), record.get("validation_loss"))
    context.enter_stage("writing a checkpoint", run.step)
    state = engine.state()
    if context.rank != 0:
        return
    directory = Path(tempfile.mkdtemp(prefix="mats-checkpoint-"))
    try:
        save_checkpoint(directory, state, run, records)
        if export_model is not None and run.step == config.train.num_steps:
            export_model(directory, state)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(directory, ignore_errors=True)  # an incomplete checkpoint only fills the disk
        raise TrainingError(
            f"the checkpoint of step {run.step} cannot be written to {directory}: {error}"
        ) from error
    context.store_checkpoint(directory, run.step)
