"""Section ``serve``: bounds and sizes are checked."""

import pytest

from mats_ray.config.serve import AutoscalingConfig, ServeConfig
from tests.unit.config.refusals import refusal


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (AutoscalingConfig, "min_replicas=3", "min_replicas=3 is more than max_replicas=2"),
        (
            ServeConfig,
            "encoder.autoscaling.min_replicas=9",
            "encoder.autoscaling: min_replicas=9 is more than",
        ),
        (ServeConfig, "ingress.cpu=1", "unknown key ingress.cpu = 1; allowed here: autoscaling, cpus, gpus"),
        (ServeConfig, "generation.profile=x", "generation.profile = 'x' is not allowed: input should be"),
        (
            ServeConfig,
            "request_timeout_seconds=0",
            "request_timeout_seconds = 0 is not allowed: input should",
        ),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(kind, change, message):
    assert refusal(kind, change).startswith(message)
