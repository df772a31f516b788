"""Section ``toy``: sizes are checked."""

import pytest

from mats_ray.config.base import override, validate
from mats_ray.config.toy import ToyConfig
from tests.unit.config.refusals import refusal


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (ToyConfig, "llm_dim=48", "llm_dim = 48 is not allowed: input should be a multiple of 32"),
        (ToyConfig, "clip_seconds=2.5", "clip_seconds = 2.5 is not allowed: input should be a valid integer"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(kind, change, message):
    assert refusal(kind, change).startswith(message)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (ToyConfig, "{clip_seconds: 4.0, llm_steps: 0}"),
    ],
)
def test_a_value_on_the_border_is_accepted(kind, change):
    validate(kind, override(f"x={change}")["x"], where="")
