"""Sections ``memory`` and ``santa``: defaults are the paper's, impossible numbers are refused."""

import pytest

from mats_ray.config.base import override, validate
from mats_ray.config.santa import MemoryConfig, SantaConfig
from tests.unit.config.refusals import refusal


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (MemoryConfig, "num_rows=50", "num_clusters=100 exceeds num_rows=50"),
        (SantaConfig, "mix=2", "mix = 2 is not allowed: input should be less than or equal to 1"),
        (SantaConfig, "temperature=0", "temperature = 0 is not allowed: input should be greater than 0"),
        (SantaConfig, "enabled=maybe", "enabled = 'maybe' is not allowed: input should be a valid boolean"),
        (SantaConfig, "neighbour_noise_variance=0.1", "neighbour_noise_variance=0.1 needs compat: upstream"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(kind, change, message):
    assert refusal(kind, change).startswith(message)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (MemoryConfig, "{num_rows: 100}"),
        (SantaConfig, "{compat: upstream, neighbour_noise_variance: 0.015, mix: 1}"),
    ],
)
def test_a_value_on_the_border_is_accepted(kind, change):
    validate(kind, override(f"x={change}")["x"], where="")
