"""The learning rate as a table, and which parameters decay."""

import pytest
from torch import nn

from mats_ray.config.train import OptimConfig, ScheduleConfig
from mats_ray.train.optim import learning_rate, parameter_groups

# lr 1, 10 steps, 2 of them warm-up
TABLE = {
    "linear": [0.5, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125],
    "cosine": [0.5, 1, 1, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060],
    "constant": [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1],
}


@pytest.mark.parametrize("kind", TABLE)
def test_the_schedule(kind):
    schedule = ScheduleConfig(type=kind, warmup_steps=2)

    rates = [learning_rate(step, lr=1, num_steps=10, schedule=schedule) for step in range(10)]

    assert rates == pytest.approx(TABLE[kind], abs=1e-6)


@pytest.mark.parametrize("kind", TABLE)
def test_the_schedule_scales_with_the_learning_rate(kind):
    schedule = ScheduleConfig(type=kind, warmup_steps=2)

    rates = [learning_rate(step, lr=3e-5, num_steps=10, schedule=schedule) for step in range(10)]

    assert rates == pytest.approx([3e-5 * rate for rate in TABLE[kind]], rel=1e-4)


@pytest.mark.parametrize("kind", TABLE)
@pytest.mark.parametrize(("warmup_steps", "num_steps"), [(0, 1), (0, 5), (4, 5), (2000, 90_000)])
def test_the_rate_reaches_its_height_and_never_zero(kind, warmup_steps, num_steps):
    schedule = ScheduleConfig(type=kind, warmup_steps=warmup_steps)
    steps = {0, warmup_steps, num_steps - 1} | ({warmup_steps - 1} if warmup_steps else set())

    rates = {step: learning_rate(step, lr=1, num_steps=num_steps, schedule=schedule) for step in steps}

    assert rates[warmup_steps] == 1
    assert rates.get(warmup_steps - 1, 1) == 1
    assert all(0 < rate <= 1 for rate in rates.values())


def test_matrices_decay_biases_and_norms_do_not():
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Linear(2, 2))
    model[2].requires_grad_(requires_grad=False)

    decayed, undecayed = parameter_groups(model.named_parameters(), OptimConfig(weight_decay=0.05))

    assert [p is model[0].weight for p in decayed["params"]] == [True]
    assert decayed["weight_decay"] == 0.05
    assert [id(p) for p in undecayed["params"]] == [id(model[0].bias), id(model[1].weight), id(model[1].bias)]
    assert undecayed["weight_decay"] == 0


def test_a_group_without_parameters_is_left_out():
    """torch takes an empty group, DeepSpeed does not."""
    groups = parameter_groups(nn.Linear(3, 2, bias=False).named_parameters(), OptimConfig())

    assert [group["weight_decay"] for group in groups] == [0.05]
