"""Section ``scaling``: the workers of a training run."""

from collections.abc import Sequence
from typing import cast

from pydantic import PositiveFloat, PositiveInt, field_validator, model_validator

from mats_ray.config.base import StrictConfig


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
