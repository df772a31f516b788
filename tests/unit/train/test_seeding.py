"""Dropout draws from (seed, step, place of the micro-batch) and nothing else."""

import torch

from mats_ray.train.seeding import dropout_seeds, seed_dropout


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
    """As ``data.order`` deals them out: workers take the micro-batches of a global batch in turn."""
    alone = seeds(count=6)

    for num_workers in (2, 3):
        count = 6 // num_workers
        shares = [seeds(count=count, rank=rank, num_workers=num_workers) for rank in range(num_workers)]
        assert [share[i] for i in range(count) for share in shares] == alone
