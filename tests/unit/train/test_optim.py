"""The learning rate as a table, which parameters decay, and the seeds of dropout."""

import pytest
import torch
from torch import nn

from mats_ray.config.train import OptimConfig, ScheduleConfig
from mats_ray.train.optim import dropout_seeds, learning_rate, parameter_groups, seed_dropout

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
    """torch accepts an empty group, DeepSpeed does not."""
    groups = parameter_groups(nn.Linear(3, 2, bias=False).named_parameters(), OptimConfig())

    assert [group["weight_decay"] for group in groups] == [0.05]


def seeds(*, seed=0, step=3, count=4, rank=0, num_workers=1):
    return dropout_seeds(seed=seed, step=step, count=count, rank=rank, num_workers=num_workers)


def draw(seed):
    seed_dropout(seed)
    return tuple(torch.rand(4).tolist())


def test_the_same_seed_draws_the_same_whatever_was_drawn_before():
    first = draw(seeds()[1])
    torch.rand(17)

    assert draw(seeds()[1]) == first


def test_every_seed_step_and_micro_batch_draws_its_own():
    draws = {draw(one) for seed in (0, 1) for step in range(20) for one in seeds(seed=seed, step=step)}

    assert len(draws) == 2 * 20 * 4


def test_a_micro_batch_draws_the_same_whichever_worker_it_falls_to():
    """As in ``data.order``: the micro-batches of a global batch are distributed over the workers in turn."""
    alone = seeds(count=6)

    for num_workers in (2, 3):
        count = 6 // num_workers
        shares = [seeds(count=count, rank=rank, num_workers=num_workers) for rank in range(num_workers)]
        assert [share[i] for i in range(count) for share in shares] == alone
