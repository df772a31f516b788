"""Section ``train``: what cannot work is refused before anything starts, with the arithmetic."""

import pytest

from mats_ray.config.base import override, validate
from mats_ray.config.train import TrainConfig
from tests.unit.config.refusals import refusal


@pytest.mark.parametrize(("text", "number"), [("3e-4", 3e-4), ("3.0e-4", 3e-4), ("1", 1.0)])
def test_a_number_is_a_number_however_it_is_written(text, number):
    """YAML 1.1 reads ``3e-4`` as text; it is what people write."""
    assert validate(TrainConfig, override(f"optim.lr={text}"), where="").optim.lr == number


@pytest.mark.parametrize(
    ("global_batch_size", "micro_batch_size", "num_workers", "steps"),
    [(96, 12, 8, 1), (96, 12, 1, 8), (96, 12, 2, 4), (128, 64, 2, 1), (5, 5, 1, 1)],
)
def test_the_global_batch_is_split_over_workers_and_passes(
    global_batch_size, micro_batch_size, num_workers, steps
):
    config = TrainConfig(global_batch_size=global_batch_size, micro_batch_size=micro_batch_size)

    assert config.accumulation_steps(num_workers) == steps


def test_a_batch_that_does_not_split_shows_the_arithmetic():
    with pytest.raises(ValueError, match=r"^train\.global_batch_size=96 is not .* = 12 x 5 = 60$"):
        TrainConfig(global_batch_size=96, micro_batch_size=12).accumulation_steps(5)


def test_warm_up_may_fill_all_steps_but_one():
    assert TrainConfig.model_validate({"num_steps": 2, "schedule": {"warmup_steps": 1}})


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            TrainConfig,
            "schedule.warmup_steps=1000",
            "schedule.warmup_steps=1000 must be below num_steps=1000",
        ),
        (TrainConfig, "num_steps=0", "num_steps = 0 is not allowed: input should be greater than 0"),
        (TrainConfig, "num_steps=yes", "num_steps = True is not allowed: input should be a number"),
        (TrainConfig, "optim.lr=fast", "optim.lr = 'fast' is not allowed: input should be a valid number"),
        (TrainConfig, "optim.lr=1e400", "optim.lr = '1e400' is not allowed: input should be a finite number"),
        (TrainConfig, "optim.betas=[0.9]", "optim.betas.1 is missing"),
        (
            TrainConfig,
            "optim.betas=[0.9, 1]",
            "optim.betas.1 = 1 is not allowed: input should be less than 1",
        ),
        (
            TrainConfig,
            "schedule.type=step",
            "schedule.type = 'step' is not allowed: input should be 'linear'",
        ),
        (TrainConfig, "engine.zero_stage=4", "engine.zero_stage = 4 is not allowed: input should be 0, 1, 2"),
        (
            TrainConfig,
            "engine={type: torch, precision: bf16}",
            "engine: type 'torch' trains in fp32, precision",
        ),
        (
            TrainConfig,
            "checkpoint.keep=0",
            "checkpoint.keep = 0 is not allowed: input should be greater than",
        ),
        (
            TrainConfig,
            "engine.zero=1",
            "unknown key engine.zero = 1; allowed here: precision, type, zero_stage",
        ),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(kind, change, message):
    assert refusal(kind, change).startswith(message)
