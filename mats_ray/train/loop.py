"""The training loop: two small protocols, nothing of Ray or DeepSpeed; one worker is no special case."""

import hashlib
import itertools
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mats_ray import __version__
from mats_ray.config import RunConfig
from mats_ray.errors import TrainingError
from mats_ray.models.mats import TrainBatch
from mats_ray.train.context import TrainContext
from mats_ray.train.engine import StepResult, TrainEngine
from mats_ray.train.optim import learning_rate
from mats_ray.train.seeding import seed_step
from mats_ray.train.state import RunState, save_checkpoint
from mats_ray.train.throughput import Window


def fit(
    engine: TrainEngine,
    batches: Iterable[TrainBatch],
    context: TrainContext,
    config: RunConfig,
    *,
    start_step: int = 0,
    finish: Callable[[Path], None] | None = None,
) -> None:
    """Train from ``start_step`` to ``config.train.num_steps``.

    Args:
        engine: Owns model and optimizer.
        batches: This worker's micro-batches from sample ``start_step * global_batch_size`` on.
        context: Takes metrics and checkpoints.
        config: Of the run.
        start_step: Updates done before.
        finish: Called by the first worker with the last checkpoint's folder, to put the model beside it.

    Raises:
        TrainingError: The loss is not finite, or the data ended early.
    """
    train = config.train
    window, source = Window(), iter(batches)
    for step in range(start_step, train.num_steps):
        began, done = time.monotonic(), step + 1
        micro_batches = _take(source, train.accumulation_steps(context.num_workers), step=done)
        waited = time.monotonic() - began
        seed_step(seed=config.seed, step=step, rank=context.rank)
        lr = learning_rate(step, lr=train.optim.lr, num_steps=train.num_steps, schedule=train.schedule)
        result = engine.train_step(micro_batches, lr=lr)
        _check(result, step=done)
        window.count(result, train.global_batch_size, seconds=time.monotonic() - began, waited=waited)
        last = done == train.num_steps
        if last or done % train.log_every == 0:
            context.log({"step": done, "lr": lr, "grad_norm": result.grad_norm, **window.rates()})
            window = Window()
        if last or done % train.checkpoint.every_steps == 0:
            _checkpoint(engine, context, config, step=done, finish=finish if last else None)


def run_hash(config: RunConfig) -> str:
    """Hash what decides the course of a run; workers, logging and checkpointing do not."""
    tree = config.model_dump(mode="json", include={"seed", "model", "train", "data"})
    tree["train"]["precision"] = tree["train"].pop("engine")["precision"]
    for key in ("log_every", "checkpoint", "max_failures", "micro_batch_size"):
        tree["train"].pop(key)
    tree["data"].pop("prepare")
    for key in ("batch_size", "concurrency", "cpus_per_actor", "gpus_per_actor"):
        tree["data"]["embed"].pop(key)
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def _take(source: Iterator[TrainBatch], count: int, *, step: int) -> list[TrainBatch]:
    micro_batches = list(itertools.islice(source, count))
    if len(micro_batches) < count:
        raise TrainingError(
            f"the data ended in step {step}: {len(micro_batches)} of {count} micro-batches came"
        )
    return micro_batches


def _check(result: StepResult, *, step: int) -> None:
    if not (math.isfinite(result.loss_sum) and math.isfinite(result.grad_norm)):
        raise TrainingError(
            f"step {step}: loss sum {result.loss_sum} over {result.num_answer_tokens} answer tokens, "
            f"gradient norm {result.grad_norm}; lower train.optim.lr or raise train.schedule.warmup_steps"
        )


def _checkpoint(
    engine: TrainEngine,
    context: TrainContext,
    config: RunConfig,
    *,
    step: int,
    finish: Callable[[Path], None] | None,
) -> None:
    """Every worker collects, the first one writes; the context takes the folder over."""
    state = engine.state()
    directory: Path | None = None
    if context.rank == 0:
        directory = Path(tempfile.mkdtemp(prefix="mats-checkpoint-"))
        run = RunState(step, step * config.train.global_batch_size, run_hash(config), __version__)
        save_checkpoint(directory, state, run)
        if finish is not None:
            finish(directory)
    context.report({"step": step}, directory)
