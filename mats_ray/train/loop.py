"""The training loop: two small protocols, nothing of Ray or DeepSpeed; one worker is no special case."""

import hashlib
import itertools
import json
import math
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from mats_ray.config import RunConfig
from mats_ray.config.train import TrainConfig
from mats_ray.errors import NotFiniteError, TrainingError
from mats_ray.models.mats import TrainBatch
from mats_ray.train.context import Record, Sample, TrainContext
from mats_ray.train.engine import EngineState, StepResult, TrainEngine
from mats_ray.train.optim import learning_rate
from mats_ray.train.seeding import dropout_seeds
from mats_ray.train.state import UNKNOWN_INPUTS, RunInputs, RunState, save_checkpoint
from mats_ray.train.throughput import Meter, Window
from mats_ray.train.validation import Validation
from mats_ray.version import __version__

Finish = Callable[[Path, EngineState], None]
NAMED_SAMPLES = 8
INPUT_PATHS = ("model.clap.ref", "model.llm.path", "data.triplets", "data.embedded")
REMEMBERED_RECORDS = 1000
"""Kept in checkpoints: what a killed driver had not yet written down is among them."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run goes on, and what it is trained from."""

    step: int = 0
    """Updates done before."""
    inputs: RunInputs = UNKNOWN_INPUTS
    """For its checkpoints."""


BEGINNING = Origin()


def fit(
    engine: TrainEngine,
    batches: Iterable[TrainBatch],
    context: TrainContext,
    config: RunConfig,
    *,
    origin: Origin = BEGINNING,
    validation: Validation | None = None,
    meter: Meter | None = None,
    finish: Finish | None = None,
) -> None:
    """Train to ``config.train.num_steps``.

    Args:
        engine: Owns model and optimizer.
        batches: This worker's micro-batches from sample ``origin.step * global_batch_size`` on.
        context: Takes metrics and checkpoints.
        config: Of the run.
        origin: Where the run goes on, and from what.
        validation: This worker's part of the held-out triplets.
        meter: Turns tokens and seconds into a share of what the hardware can do.
        finish: Called by the first worker with the last checkpoint's folder, to put the model beside it.

    Raises:
        TrainingError: The loss is not finite, or the data ended early.
    """
    train = config.train
    window, source, records = Window(), iter(batches), deque[Record](maxlen=REMEMBERED_RECORDS)
    for done in range(origin.step + 1, train.num_steps + 1):
        due, began = _Due.at(done, train), time.monotonic()
        micro_batches, waited = _take(source, context, train, step=done)
        lr, result = _update(engine, micro_batches, context, config, step=done - 1)
        window.count(result, train.global_batch_size, seconds=time.monotonic() - began, waited=waited)
        record: Record = {"step": done}
        if due.log:
            record |= {"lr": lr, "grad_norm": result.grad_norm, **window.rates(meter)}
            window = Window()
        _log(engine, context, record, records, validation if due.validate else None)
        if due.keep:
            _checkpoint(engine, context, config, origin.inputs, record, records, finish if due.end else None)


@dataclass(frozen=True, slots=True)
class _Due:
    """What a step is followed by; the last one by everything."""

    log: bool
    validate: bool
    keep: bool
    end: bool

    @classmethod
    def at(cls, done: int, train: TrainConfig) -> "_Due":
        last = done == train.num_steps
        keep = last or done % train.checkpoint.every_steps == 0
        validate = keep or done % train.validation.every_steps == 0  # the best checkpoint is to be known
        return cls(last or done % train.log_every == 0, validate, keep, last)


def _log(
    engine: TrainEngine,
    context: TrainContext,
    record: Record,
    records: deque[Record],
    validation: Validation | None,
) -> None:
    """Add the held-out loss, if it is due, and hand the record over, if it says anything."""
    samples: list[Sample] = []
    if validation is not None:
        context.enter("validation", int(record["step"]))
        record["validation_loss"] = validation.loss(engine)
        samples = validation.samples(engine)
    if len(record) > 1:
        record["num_workers"] = context.num_workers
        records.append(record)
        context.log(record, samples)


def run_hash(config: RunConfig) -> str:
    """Hash what decides the course of a run, paths included; workers, logging and checkpointing do not."""
    tree = _course_tree(config)
    if config.data.splits == type(config.data)().splits:  # a run begun before there was a choice goes on
        tree["data"].pop("splits")
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def course(config: RunConfig) -> dict[str, Any]:
    """List what decides the course of a run by key, ``train.num_steps``.

    Paths of inputs are left out: what lies there is told by its fingerprint.
    """
    flat = _flat(_course_tree(config))
    return {key: value for key, value in flat.items() if key not in INPUT_PATHS}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _course_tree(config: RunConfig) -> dict[str, Any]:
    tree = config.model_dump(mode="json", include={"seed", "model", "train", "data"})
    tree["train"]["precision"] = tree["train"].pop("engine")["precision"]
    for key in (
        "log_every",
        "checkpoint",
        "max_failures",
        "micro_batch_size",
        "validation",
        "stall_seconds",
        "trackers",
    ):
        tree["train"].pop(key)
    tree["data"].pop("prepare")
    for key in ("batch_size", "concurrency", "cpus_per_actor", "gpus_per_actor"):
        tree["data"]["embed"].pop(key)
    tree["data"].pop("group_by_length")
    return tree


def _take(
    source: Iterator[TrainBatch], context: TrainContext, train: TrainConfig, *, step: int
) -> tuple[list[TrainBatch], float]:
    """Return this worker's micro-batches of an update, and the seconds it has waited for them."""
    context.enter("waiting for data", step)
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
    lr = learning_rate(step, lr=train.optim.lr, num_steps=train.num_steps, schedule=train.schedule)
    seeds = dropout_seeds(
        seed=config.seed,
        step=step,
        count=len(micro_batches),
        rank=context.rank,
        num_workers=context.num_workers,
    )
    context.enter("forward, backward and update", step + 1)
    result = engine.train_step(micro_batches, lr=lr, seeds=seeds)
    _check(result, micro_batches, step=step + 1)
    return lr, result


def _check(result: StepResult, micro_batches: Sequence[TrainBatch], *, step: int) -> None:
    """Every worker sees the sums and stops; the one whose loss it was can name the samples."""
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
    config: RunConfig,
    inputs: RunInputs,
    record: Record,
    records: Iterable[Record],
    finish: Finish | None,
) -> None:
    """Every worker collects, the first one writes; the context takes the folder over."""
    step = int(record["step"])
    context.enter("writing a checkpoint", step)
    state = engine.state()
    if context.rank != 0:
        return
    samples = step * config.train.global_batch_size
    run = RunState(
        step,
        samples,
        run_hash(config),
        __version__,
        record.get("validation_loss"),
        course(config),
        inputs,
    )
    directory = Path(tempfile.mkdtemp(prefix="mats-checkpoint-"))
    try:
        save_checkpoint(directory, state, run, records)
        if finish is not None:
            finish(directory, state)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(directory, ignore_errors=True)  # half a checkpoint on a full disk helps nobody
        raise TrainingError(
            f"the checkpoint of step {step} cannot be written to {directory}: {error}"
        ) from error
    context.keep(directory, step)
