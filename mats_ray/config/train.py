"""Section ``train``: optimizer, schedule, engine, checkpoints, validation."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from mats_ray.config.base import StrictConfig
from mats_ray.config.paths import StoragePath

TrackerName = Literal["tensorboard", "wandb", "mlflow"]


class OptimConfig(StrictConfig):
    """AdamW."""

    lr: PositiveFloat = 3.0e-5
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 0.05
    """Applied to matrices only, not to biases and norms."""
    max_grad_norm: PositiveFloat = 1.0


class ScheduleConfig(StrictConfig):
    """Learning rate as a pure function of the step."""

    type: Literal["linear", "cosine", "constant"] = "cosine"
    warmup_steps: NonNegativeInt = 0


class EngineConfig(StrictConfig):
    """The engine that computes updates."""

    type: Literal["deepspeed", "torch"] = "deepspeed"
    """"torch" is plain AdamW in one process, for tests and single machines."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """0: nothing is partitioned; 1: optimizer state; 2: and gradients; 3: and weights, frozen ones too. A
    single worker in fp32 has nothing to partition and runs 1 and 2 as 0."""
    precision: Literal["fp32", "bf16"] = "fp32"

    @property
    def number_bytes(self) -> int:
        """Bytes of a weight, gradient or activation."""
        return 2 if self.precision == "bf16" else 4

    @model_validator(mode="after")
    def plain_torch_is_fp32(self) -> "EngineConfig":
        """Refuse a precision that would be ignored."""
        if self.type == "torch" and self.precision != "fp32":
            raise ValueError(f"type 'torch' trains in fp32, precision is {self.precision!r}; use 'deepspeed'")
        return self


class CheckpointConfig(StrictConfig):
    """Checkpoints, which hold trained weights and their optimizer state, nothing that is frozen."""

    every_steps: PositiveInt = 1000
    keep: PositiveInt = 2
    """Number of newest checkpoints kept in the run's storage; with validation data the best one, too."""


class ValidationConfig(StrictConfig):
    """Validation during the run."""

    data: StoragePath | None = None
    """Embedded triplets held out: a file, a folder or an s3:// prefix. Empty: none."""
    every_steps: PositiveInt = 1000
    """Steps between validations; there is also one at every checkpoint and at the end."""
    num_rows: PositiveInt = 256
    """Number of rows, drawn with the seed."""
    num_samples: NonNegativeInt = 4
    """Number of these rows whose answers are generated and logged."""
    max_new_tokens: PositiveInt = 40


class TrainConfig(StrictConfig):
    """Steps, batch sizes and everything else of one run."""

    num_steps: PositiveInt = 1000
    """Updates in all; may be raised later, and the schedule then is that of the new number."""
    init_from: Annotated[StoragePath, Field(min_length=1)] | None = None
    """Model directory, local or s3://, whose trained weights the run starts from; optimizer and steps start
    anew. Empty: fresh weights."""
    global_batch_size: PositiveInt = 96
    """Samples per update, for any number of workers."""
    micro_batch_size: PositiveInt = 12
    """Samples per forward pass of one worker; the rest is accumulated."""
    log_every: PositiveInt = 10
    max_failures: NonNegativeInt = 2
    """Number of restarts of the worker group after lost workers before the run fails."""
    stall_seconds: PositiveFloat = 900
    """Seconds that a worker may spend in one stage, e.g. loading the model; beyond it the run fails with an
    error that names the stage."""
    trackers: tuple[TrackerName, ...] = ("tensorboard",)
    """Besides ``metrics.jsonl``; "wandb" and "mlflow" need their packages."""
    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    engine: EngineConfig = EngineConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    validation: ValidationConfig = ValidationConfig()

    @model_validator(mode="after")
    def warmup_fits(self) -> "TrainConfig":
        """Refuse a warm-up longer than the run, which would never reach ``lr``."""
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
