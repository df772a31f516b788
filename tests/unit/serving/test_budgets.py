import asyncio
from contextlib import suppress

import pytest

from mats_ray.serving.budgets import Budget, current_memory, memory_share
from mats_ray.serving.errors import RequestError


def refusal(share, amount):
    with pytest.raises(RequestError) as caught:
        share.acquire(amount)
    return caught.value


def test_shares_hold_no_more_than_there_is_together():
    budget = Budget(10, "windows")

    with budget.share() as one, budget.share() as other:
        one.acquire(6)
        other.acquire(4)
        error = refusal(one, 1)

        assert (error.code, str(error)) == (
            "overloaded",
            "the requests in flight leave no room for 1 windows more",
        )
        other.release(3)
        one.acquire(3)
        assert (one.held, other.held, budget.held) == (9, 1, 10)
    assert budget.held == 0


def test_an_amount_beyond_the_budget_is_too_large_not_overload():
    budget = Budget(10, "windows")

    with budget.share() as one, budget.share() as other:
        other.acquire(10)
        one.check_fits(10)
        error = refusal(one, 11)

    assert (error.code, str(error)) == (
        "too_large",
        "this request needs 11 windows or more, all requests together have 10",
    )


def test_a_refused_amount_is_not_held():
    budget = Budget(10, "windows")

    with budget.share() as one:
        one.acquire(8)
        refusal(one, 3)
        assert (one.held, budget.held) == (8, 8)


def test_no_more_is_given_back_than_was_held():
    budget = Budget(10, "windows")

    with budget.share() as one, budget.share() as other:
        other.acquire(5)
        one.acquire(2)
        one.release(3)
        assert budget.held == 5


def test_a_failed_request_releases_its_share():
    budget = Budget(10, "windows")

    with suppress(ValueError), budget.share() as share:
        share.acquire(7)
        raise ValueError

    assert budget.held == 0


def test_a_thread_that_outlives_its_request_acquires_nothing():
    budget = Budget(10, "windows")
    with budget.share() as share:
        pass

    refusal(share, 1)

    assert budget.held == 0


def test_memory_is_that_of_the_request_being_answered():
    async def request(amount):
        with memory_share(budget) as share:
            await asyncio.create_task(decode(amount))
            await all_here.wait()
            return share.held

    async def decode(amount):
        current_memory().acquire(amount)

    async def scenario():
        asking = [asyncio.create_task(request(amount)) for amount in (1, 2)]
        while budget.held < 3:
            await asyncio.sleep(0)
        all_here.set()
        return await asyncio.gather(*asking)

    budget, all_here = Budget(10, "bytes"), asyncio.Event()

    assert asyncio.run(scenario()) == [1, 2]
    assert budget.held == 0


def test_outside_of_requests_memory_has_no_limit():
    current_memory().acquire(10**15)
