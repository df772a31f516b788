"""Section ``scaling``: a number of workers, or a range."""

import pytest

from mats_ray.config.scaling import ScalingConfig
from tests.unit.config.refusals import refusal


@pytest.mark.parametrize(("num_workers", "counts"), [(3, [3]), ([2, 4], [2, 3, 4]), ([2, 2], [2])], ids=str)
def test_workers_are_a_number_or_a_range(num_workers, counts):
    assert list(ScalingConfig(num_workers=num_workers).worker_counts) == counts


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            ScalingConfig,
            "num_workers=none",
            "num_workers: 'none' is not allowed: a positive number, or [min,",
        ),
        (ScalingConfig, "num_workers=0", "num_workers: 0 is not allowed: a positive number, or [min, max]"),
        (ScalingConfig, "num_workers=yes", "num_workers: True is not allowed: a positive number"),
        (ScalingConfig, "num_workers=[1, 2, 3]", "num_workers: [1, 2, 3] is not allowed: a positive number"),
        (ScalingConfig, "num_workers=[3, 2]", "num_workers=[3, 2] must be [min, max]"),
        (
            ScalingConfig,
            "gpus=1",
            "unknown key gpus = 1; allowed here: cpus_per_worker, num_workers, resize_seconds, threads_",
        ),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(kind, change, message):
    assert refusal(kind, change).startswith(message)
