"""Section ``caption``: shares and windows are checked."""

import pytest

from mats_ray.config.caption import CaptionConfig
from tests.unit.config.refusals import refusal


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (CaptionConfig, "max_error_fraction=1.5", "max_error_fraction = 1.5 is not allowed: input should be"),
        (CaptionConfig, "hop=2", "hop=2 is given without a window"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(kind, change, message):
    assert refusal(kind, change).startswith(message)
