"""The feed: bounded, in order, and the same again for a reader that begins again."""

import asyncio

import pyarrow as pa

from mats_ray.caption.batch_feed import BatchFeed


def batch(n):
    return pa.table({"n": [n]})


def numbers(table):
    return None if table is None else table["n"].to_pylist() if table.num_columns else []


def test_batches_come_in_order_until_the_feed_is_closed():
    async def run():
        feed = BatchFeed(5)
        for n in range(3):
            await feed.put(batch(n), 1)
        await feed.close()
        return [numbers(await feed.get(n)) for n in range(4)]

    assert asyncio.run(run()) == [[0], [1], [2], None]


def test_a_reader_that_begins_again_gets_what_is_not_done():
    async def run():
        feed = BatchFeed(5)
        for n in range(4):
            await feed.put(batch(n), 2)
        await feed.end({0: 2, 1: 1, 3: 1})
        await feed.end({3: 1, 99: 1})
        await feed.close()
        return [numbers(await feed.get(n)) for n in range(4)]

    assert asyncio.run(run()) == [[], [1], [2], []]


def test_only_so_many_batches_are_under_way():
    async def run():
        feed = BatchFeed(2)
        await feed.put(batch(0), 1)
        await feed.put(batch(1), 1)
        third = asyncio.ensure_future(feed.put(batch(2), 1))
        reader = asyncio.ensure_future(feed.get(2))
        for _ in range(10):
            await asyncio.sleep(0)
        waits = third.done(), reader.done()
        await feed.end({0: 1})
        await third
        return waits, numbers(await reader)

    assert asyncio.run(run()) == ((False, False), [2])


def test_a_batch_without_results_is_done_at_once():
    async def run():
        feed = BatchFeed(1)
        for n in range(3):
            await feed.put(batch(n), 0)
        await feed.put(batch(3), 1)
        return [numbers(await feed.get(n)) for n in range(4)]

    assert asyncio.run(run()) == [[], [], [], [3]]


def test_seconds_add_up_by_stage():
    async def run():
        feed = BatchFeed(1)
        for stage, seconds in (("decode", 1.5), ("answer", 2.0), ("decode", 0.5)):
            await feed.add_seconds(stage, seconds)
        return await feed.seconds()

    assert asyncio.run(run()) == {"decode": 2.0, "answer": 2.0}
