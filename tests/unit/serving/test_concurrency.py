import asyncio

import pytest

from mats_ray.serving.concurrency import gather, running


class Calls:
    """Calls that wait at a gate; counts those under way."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.under_way = self.most = self.started = 0

    def make(self, result):
        async def call():
            self.started += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            try:
                if isinstance(result, Exception):
                    raise result
                await self.gate.wait()
                return result
            finally:
                self.under_way -= 1

        return call


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


def test_results_come_in_order_and_few_calls_run_at_once():
    async def scenario():
        calls = Calls()
        work = asyncio.create_task(gather([calls.make(n) for n in range(20)], limit=3))
        await until(lambda: calls.under_way == 3)
        calls.gate.set()
        return await work, calls.most

    assert asyncio.run(scenario()) == (list(range(20)), 3)


def test_an_error_is_raised_as_itself_and_cancels_the_others():
    async def scenario():
        calls = Calls()
        with pytest.raises(KeyError, match="odd"):
            await gather([calls.make(n) for n in (1, 2, KeyError("odd"), *range(60))], limit=3)
        return calls.under_way, calls.started

    under_way, started = asyncio.run(scenario())

    assert under_way == 0
    assert started < 9


def test_with_the_caller_all_calls_end():
    async def scenario():
        calls = Calls()
        work = asyncio.create_task(gather([calls.make(n) for n in range(9)], limit=4))
        await until(lambda: calls.under_way == 4)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        return calls.under_way, calls.started

    assert asyncio.run(scenario()) == (0, 4)


def test_calls_running_at_the_end_of_the_block_are_cancelled():
    async def scenario():
        calls = Calls()
        async with running([calls.make(n) for n in range(9)], limit=4):
            await until(lambda: calls.under_way == 4)
        return calls.under_way, calls.started

    assert asyncio.run(scenario()) == (0, 4)
