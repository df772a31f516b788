import asyncio
import threading

import pytest

from mats_ray.serving.batches import BatchThread, isolate


def work(numbers):
    """Double numbers; a negative one spoils the batch it is in."""
    if min(numbers) < 0:
        raise ValueError(f"{min(numbers)} is negative")
    work.sizes.append(len(numbers))
    return [2 * number for number in numbers]


@pytest.fixture(autouse=True)
def sizes():
    work.sizes = []
    return work.sizes


def test_a_good_batch_is_done_in_one_go(sizes):
    assert [outcome.unwrap() for outcome in isolate(work, [1, 2, 3])] == [2, 4, 6]
    assert sizes == [3]


def test_only_the_bad_items_fail_and_the_order_stays():
    outcomes = isolate(work, [1, -2, 3, 4, -5])

    assert [outcome.result for outcome in outcomes] == [2, None, 6, 8, None]
    for outcome, said in ((outcomes[1], "-2"), (outcomes[4], "-5")):
        with pytest.raises(ValueError, match=f"{said} is negative"):
            outcome.unwrap()


def test_neighbours_of_a_bad_item_still_share_batches(sizes):
    isolate(work, [-1, 2, 3, 4, 5, 6, 7, 8])

    assert sorted(sizes) == [1, 2, 4]


class Gated:
    """Work that waits at a gate once it has begun."""

    def __init__(self):
        self.begun, self.gate = threading.Event(), threading.Event()
        self.batches = []

    def __call__(self, items):
        self.batches.append(list(items))
        self.begun.set()
        assert self.gate.wait(20)
        return items


def run_while_busy(thread, gated, items, *, give_up=()):
    """Let one item be computed, ask for others meanwhile, give some up, open the gate."""

    async def scenario():
        first = asyncio.create_task(thread.do("first"))
        await asyncio.to_thread(gated.begun.wait, 20)
        late = {item: asyncio.create_task(thread.do(item)) for item in items}
        await asyncio.sleep(0)
        for item in give_up:
            late[item].cancel()
        await asyncio.sleep(0)
        gated.gate.set()
        return await asyncio.gather(first, *late.values(), return_exceptions=True)

    return asyncio.run(scenario())


def test_what_comes_while_a_batch_is_computed_goes_on_together():
    gated = Gated()

    results = run_while_busy(BatchThread(gated, max_items=2), gated, ["b", "c", "d"])

    assert results == ["first", "b", "c", "d"]
    assert gated.batches == [["first"], ["b", "c"], ["d"]]


def test_what_nobody_waits_for_is_not_computed():
    gated = Gated()

    run_while_busy(BatchThread(gated, max_items=2), gated, ["b", "c"], give_up=["b"])

    assert gated.batches == [["first"], ["c"]]


def test_a_bad_item_raises_for_its_asker_only():
    thread = BatchThread(work, max_items=8)

    async def scenario():
        return await asyncio.gather(*(thread.do(n) for n in (1, -1, 2)), return_exceptions=True)

    one, bad, two = asyncio.run(scenario())

    assert (one, two) == (2, 4)
    assert str(bad) == "-1 is negative"


def test_an_idle_thread_can_wait_for_company(sizes):
    thread = BatchThread(work, max_items=3, wait_seconds=20)

    async def scenario():
        return await asyncio.gather(*(thread.do(n) for n in (1, 2, 3)))

    assert asyncio.run(scenario()) == [2, 4, 6]
    assert sizes == [3]
