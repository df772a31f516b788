"""The training loop: two small protocols, nothing of Ray or DeepSpeed; one worker is no special case."""

import hashlib
import itertools
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from mats_ray import __version__
from mats_ray.config import RunConfig
from mats_ray.errors import NotFiniteError, TrainingError
from mats_ray.models.mats import TrainBatch
from mats_ray.train.context import TrainContext
from mats_ray.train.engine import EngineState, StepResult, TrainEngine
from mats_ray.train.optim import learning_rate
from mats_ray.train.seeding import dropout_seeds
from mats_ray.train.state import RunState, save_checkpoint
from mats_ray.train.throughput import Meter, Window
from mats_ray.train.validation import Validation

Finish = Callable[[Path, EngineState], None]
NAMED_SAMPLES = 8


def fit(
    engine: TrainEngine,
    batches: Iterable[TrainBatch],
    context: TrainContext,
    config: RunConfig,
    *,
    start_step: int = 0,
    validation: Validation | None = None,
    meter: Meter | None = None,
    finish: Finish | None = None,
) -> None:
    """Train from ``start_step`` to ``config.train.num_steps``.

    Args:
        engine: Owns model and optimizer.
        batches: This worker's micro-batches from sample ``start_step * global_batch_size`` on.
        context: Takes metrics and checkpoints.
        config: Of the run.
        start_step: Updates done before.
        validation: This worker's part of the held-out triplets.
        meter: Turns tokens and seconds into a share of what the hardware can do.
        finish: Called by the first worker with the last checkpoint's folder, to put the model beside it.

    Raises:
        TrainingError: The loss is not finite, or the data ended early.
    """
    train = config.train
    window, source = Window(), iter(batches)
    for step in range(start_step, train.num_steps):
        done, last = step + 1, step + 1 == train.num_steps
        began = time.monotonic()
        context.enter("waiting for data", done)
        micro_batches = _take(source, train.accumulation_steps(context.num_workers), step=done)
        waited = time.monotonic() - began
        context.enter("forward, backward and update", done)
        lr, result = _update(engine, micro_batches, context, config, step=step)
        window.count(result, train.global_batch_size, seconds=time.monotonic() - began, waited=waited)
        keeps = last or done % train.checkpoint.every_steps == 0
        record: dict[str, float] = {}
        if last or done % train.log_every == 0:
            record = {"lr": lr, "grad_norm": result.grad_norm, **window.rates(meter)}
            window = Window()
        if validation and (keeps or done % train.validation.every_steps == 0):
            context.enter("validation", done)
            record["validation_loss"] = validation.loss(engine)
        if record:
            asks = validation if "validation_loss" in record else None
            context.log({"step": done, **record}, asks.samples(engine) if asks else ())
        if keeps:
            context.enter("writing a checkpoint", done)
            run = RunState(
                done,
                done * train.global_batch_size,
                run_hash(config),
                __version__,
                record.get("validation_loss"),
            )
            _checkpoint(engine, context, run, finish if last else None)


def run_hash(config: RunConfig) -> str:
    """Hash what decides the course of a run; workers, logging and checkpointing do not."""
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
    for key in ("batch_size", "concurrency", "cpus_per_actor", "gpus_per_actor"):
        tree["data"]["embed"].pop(key)
    tree["data"].pop("group_by_length")
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def _take(source: Iterator[TrainBatch], count: int, *, step: int) -> list[TrainBatch]:
    micro_batches = list(itertools.islice(source, count))
    if len(micro_batches) < count:
        raise TrainingError(
            f"the data ended in step {step}: {len(micro_batches)} of {count} micro-batches came"
        )
    return micro_batches


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


def _checkpoint(engine: TrainEngine, context: TrainContext, run: RunState, finish: Finish | None) -> None:
    """Every worker collects, the first one writes; the context takes the folder over."""
    state = engine.state()
    if context.rank != 0:
        return
    directory = Path(tempfile.mkdtemp(prefix="mats-checkpoint-"))
    try:
        save_checkpoint(directory, state, run)
        if finish is not None:
            finish(directory, state)
    except OSError as error:
        raise TrainingError(
            f"the checkpoint of step {run.step} cannot be written to {directory}: {error}"
        ) from error
    context.keep(directory, run.step)
