"""Section ``caption``: shares and windows are checked."""

import re
from typing import get_args

import pytest

from mats_ray import errors
from mats_ray.config.caption import CaptionConfig, ErrorCode
from tests.unit.config.refusals import refusal


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (CaptionConfig, "max_error_fraction=1.5", "max_error_fraction = 1.5 is not allowed: input should be"),
        (CaptionConfig, "hop=2", "hop=2 is given without a window"),
        (
            CaptionConfig,
            "retry=[too_log]",
            "retry.0 = 'too_log' is not allowed: input should be",
        ),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(kind, change, message):
    assert refusal(kind, change).startswith(message)


def test_the_codes_that_can_be_retried_are_those_that_errors_document():
    kinds = (errors.AudioError, errors.AudioDecodeError, errors.AnswerError)
    documented = {
        code
        for kind in kinds
        for code in re.findall(r"``([a-z_]+)``", kind.__doc__.partition("Attributes:")[2])
    }

    assert set(get_args(ErrorCode)) == documented
