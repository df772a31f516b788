"""How training runs: optimizer, schedule, engine, checkpoints, workers."""

from collections.abc import Sequence
from typing import Annotated, Literal, cast

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from mats_ray.config.base import StrictConfig

TrackerName = Literal["tensorboard", "wandb", "mlflow"]


class OptimConfig(StrictConfig):
    """AdamW."""

    lr: PositiveFloat = 3.0e-5
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 0.05
    """On matrices only; biases and norms are left alone."""
    max_grad_norm: PositiveFloat = 1.0


class ScheduleConfig(StrictConfig):
    """Learning rate as a pure function of the step."""

    type: Literal["linear", "cosine", "constant"] = "cosine"
    warmup_steps: NonNegativeInt = 0


class EngineConfig(StrictConfig):
    """What turns a loss into an update."""

    type: Literal["deepspeed", "torch"] = "deepspeed"
    """"torch" is plain AdamW in one process, for tests and single machines."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """0: nothing is split; 1: optimizer, 2: gradients, 3: weights too, the frozen ones included."""
    precision: Literal["fp32", "bf16"] = "fp32"

    @model_validator(mode="after")
    def plain_torch_is_fp32(self) -> "EngineConfig":
        """A precision that would be ignored."""
        if self.type == "torch" and self.precision != "fp32":
            raise ValueError(f"type 'torch' trains in fp32, precision is {self.precision!r}; use 'deepspeed'")
        return self


class CheckpointConfig(StrictConfig):
    """Small checkpoints of what is trained."""

    every_steps: PositiveInt = 1000
    keep: PositiveInt = 2
    """Newest ones kept in the run's storage; with validation data the best one besides."""


class ValidationConfig(StrictConfig):
    """What the run is measured by while it goes on."""

    data: str | None = None
    """Embedded triplets held out: a file, a folder or an s3:// prefix. Empty: none."""
    every_steps: PositiveInt = 1000
    """Also measured at every checkpoint, and at the end."""
    num_rows: PositiveInt = 256
    """Drawn by seed."""
    num_samples: NonNegativeInt = 4
    """Of them, questions whose answers are generated and logged."""
    max_new_tokens: PositiveInt = 40


class ScalingConfig(StrictConfig):
    """Workers, in the words of ray.train.ScalingConfig."""

    num_workers: PositiveInt | tuple[PositiveInt, PositiveInt] = 1
    """Or [min, max]: the run shrinks when a node is lost and grows when one comes."""
    resize_seconds: PositiveFloat = 60
    """How often a run of [min, max] looks for room for more workers."""
    use_gpu: bool = False
    cpus_per_worker: PositiveFloat = 1
    threads_per_worker: PositiveInt = 1
    """torch threads, which on CPU decide the speed."""

    @field_validator("num_workers", mode="before")
    @classmethod
    def number_or_range(cls, value: object) -> object:
        """One of two forms, said in one line."""
        is_range = isinstance(value, list | tuple)
        both: Sequence[object] = cast("Sequence[object]", value) if is_range else [value]
        if len(both) != 1 + is_range or not all(type(one) is int and one > 0 for one in both):
            raise ValueError(f"{value!r} is not allowed: a positive number, or [min, max]")
        return value

    @model_validator(mode="after")
    def range_in_order(self) -> "ScalingConfig":
        """[min, max], not the other way round."""
        if self.min_workers > self.max_workers:
            raise ValueError(f"num_workers=[{self.min_workers}, {self.max_workers}] must be [min, max]")
        return self

    @property
    def min_workers(self) -> int:
        """Fewer than that cannot run."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]

    @property
    def max_workers(self) -> int:
        """More than that are never used."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[1]

    @property
    def worker_counts(self) -> range:
        """Every number of workers the run may have."""
        return range(self.min_workers, self.max_workers + 1)


class TrainConfig(StrictConfig):
    """One run."""

    num_steps: PositiveInt = 1000
    global_batch_size: PositiveInt = 96
    """Samples per update, for any number of workers."""
    micro_batch_size: PositiveInt = 12
    """Samples per forward pass of one worker; the rest is accumulated."""
    log_every: PositiveInt = 10
    max_failures: NonNegativeInt = 2
    """Restarts of the worker group after lost workers before the run gives up."""
    stall_seconds: PositiveFloat = 900
    """A worker longer than that in one stage (loading the model is one) ends the run; the error names it."""
    trackers: tuple[TrackerName, ...] = ("tensorboard",)
    """Besides ``metrics.jsonl``; "wandb" and "mlflow" need their packages."""
    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    engine: EngineConfig = EngineConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    validation: ValidationConfig = ValidationConfig()

    @model_validator(mode="after")
    def warmup_fits(self) -> "TrainConfig":
        """Warm-up longer than the run would never reach the learning rate asked for."""
        if self.schedule.warmup_steps >= self.num_steps:
            raise ValueError(
                f"schedule.warmup_steps={self.schedule.warmup_steps} must be below num_steps={self.num_steps}"
            )
        return self

    def accumulation_steps(self, num_workers: int) -> int:
        """Return micro-batches per update and worker.

        Raises:
            ValueError: The global batch cannot be split evenly; the message shows the arithmetic.
        """
        per_pass = self.micro_batch_size * num_workers
        if self.global_batch_size % per_pass:
            raise ValueError(
                f"train.global_batch_size={self.global_batch_size} is not a multiple of "
                f"train.micro_batch_size x workers = {self.micro_batch_size} x {num_workers} = {per_pass}"
            )
        return self.global_batch_size // per_pass
