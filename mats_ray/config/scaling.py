"""Section ``scaling``: the workers of a training run."""

from collections.abc import Sequence
from typing import cast

from pydantic import PositiveFloat, PositiveInt, field_validator, model_validator

from mats_ray.config.base import StrictConfig


class ScalingConfig(StrictConfig):
    """Workers, named as in ray.train.ScalingConfig."""

    num_workers: PositiveInt | tuple[PositiveInt, PositiveInt] = 1
    """Number of workers, or [min, max]: the run shrinks when a node is lost and grows when one is added."""
    resize_seconds: PositiveFloat = 60
    """Seconds between checks whether a run of [min, max] can have more workers."""
    use_gpu: bool = False
    cpus_per_worker: PositiveFloat = 1
    threads_per_worker: PositiveInt = 1
    """Number of torch threads, which determines the speed on CPUs."""

    @field_validator("num_workers", mode="before")
    @classmethod
    def number_or_range(cls, value: object) -> object:
        """Check both forms, with one error line for either."""
        is_range = isinstance(value, list | tuple)
        both: Sequence[object] = cast("Sequence[object]", value) if is_range else [value]
        if len(both) != 1 + is_range or not all(type(one) is int and one > 0 for one in both):
            raise ValueError(f"{value!r} is not allowed: a positive number, or [min, max]")
        return value

    @model_validator(mode="after")
    def range_in_order(self) -> "ScalingConfig":
        """Refuse a minimum above the maximum."""
        if self.min_workers > self.max_workers:
            raise ValueError(f"num_workers=[{self.min_workers}, {self.max_workers}] must be [min, max]")
        return self

    @property
    def min_workers(self) -> int:
        """Smallest number of workers the run can continue with."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]

    @property
    def max_workers(self) -> int:
        """Largest number of workers the run uses."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[1]

    @property
    def worker_counts(self) -> range:
        """All numbers of workers the run may have."""
        return range(self.min_workers, self.max_workers + 1)
