"""Dropout draws from (seed, step, rank) and nothing else."""

import torch

from mats_ray.train.seeding import seed_step


def draw(**place):
    seed_step(**place)
    return tuple(torch.rand(4).tolist())


def test_the_same_place_draws_the_same_whatever_was_drawn_before():
    first = draw(seed=0, step=3, rank=1)
    torch.rand(17)

    assert draw(seed=0, step=3, rank=1) == first


def test_every_seed_step_and_rank_draws_its_own():
    draws = {
        draw(seed=seed, step=step, rank=rank) for seed in (0, 1) for step in range(20) for rank in range(4)
    }

    assert len(draws) == 2 * 20 * 4
