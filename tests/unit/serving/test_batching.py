import asyncio
import gc
import threading
import time
import weakref

import pytest

from mats_ray.errors import EngineError
from mats_ray.serving.batching import BatchThread, isolate


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
    for outcome, number in ((outcomes[1], "-2"), (outcomes[4], "-5")):
        with pytest.raises(ValueError, match=f"{number} is negative"):
            outcome.unwrap()


def test_items_beside_a_bad_one_still_share_batches(sizes):
    isolate(work, [-1, 2, 3, 4, 5, 6, 7, 8])

    assert sorted(sizes) == [1, 2, 4]


class Gated:
    """Work that waits at a gate once it has started."""

    def __init__(self):
        self.started, self.gate = threading.Event(), threading.Event()
        self.batches = []

    def __call__(self, items):
        self.batches.append(list(items))
        self.started.set()
        assert self.gate.wait(20)
        return items


def run_while_busy(thread, gated, items, *, give_up=(), first="first"):
    """Let one item be computed, submit others meanwhile, cancel some, open the gate."""

    async def scenario():
        started = asyncio.create_task(thread.do(first))
        await asyncio.to_thread(gated.started.wait, 20)
        late = [asyncio.create_task(thread.do(item)) for item in items]
        await asyncio.sleep(0)
        for item in give_up:
            late[items.index(item)].cancel()
        await asyncio.sleep(0)
        gated.gate.set()
        return await asyncio.gather(started, *late, return_exceptions=True)

    return asyncio.run(scenario())


def test_items_that_arrive_during_a_batch_are_the_next_one():
    gated = Gated()

    results = run_while_busy(BatchThread(gated, max_items=2), gated, ["b", "c", "d"])

    assert results == ["first", "b", "c", "d"]
    assert gated.batches == [["first"], ["b", "c"], ["d"]]


def test_a_cancelled_item_is_not_computed():
    gated = Gated()

    run_while_busy(BatchThread(gated, max_items=2), gated, ["b", "c"], give_up=["b"])

    assert gated.batches == [["first"], ["c"]]


def test_a_batch_is_limited_by_the_size_of_its_items():
    gated = Gated()
    thread = BatchThread(gated, max_items=16, max_size=10, size_of=float)

    results = run_while_busy(thread, gated, [4, 6, 1, 600, 600, 2, 9], first=10)

    assert results == [10, 4, 6, 1, 600, 600, 2, 9]
    assert gated.batches == [[10], [4, 6], [1], [600], [600], [2], [9]]


def test_a_cancelled_item_does_not_count_in_its_batch():
    gated = Gated()
    thread = BatchThread(gated, max_items=2, max_size=10, size_of=float)

    run_while_busy(thread, gated, [600, 7, 3, 2], first=10, give_up=[600, 3])

    assert gated.batches == [[10], [7, 2]]


@pytest.mark.parametrize(("others", "steps"), [([], 1), (["other"], 3)], ids=["alone", "with another"])
def test_work_ends_between_two_steps_once_all_callers_are_cancelled(others, steps):
    step, go_on, done = threading.Semaphore(0), threading.Semaphore(0), []

    def work_in_steps(items):
        for number in range(3):
            thread.raise_if_abandoned()
            done.append(number)
            step.release()
            assert go_on.acquire(timeout=20)
        return items

    async def scenario():
        asking = [asyncio.create_task(thread.do(item)) for item in ["first", *others]]
        await asyncio.to_thread(step.acquire)
        asking[0].cancel()
        await asyncio.sleep(0)
        go_on.release(10)
        rest = await asyncio.gather(*asking[1:])
        thread._work = lambda items: items
        return rest, await asyncio.gather(thread.do("next"), thread.do("one"))

    thread = BatchThread(work_in_steps, max_items=2, wait_seconds=20 if others else 0)

    assert asyncio.run(scenario()) == (others, ["next", "one"])
    assert len(done) == steps


def test_an_idle_thread_holds_no_item():
    class Item:
        pass

    async def scenario(item):
        return weakref.ref(await BatchThread(lambda items: items, max_items=2).do(item))

    left = asyncio.run(scenario(Item()))

    until = time.monotonic() + 20
    while left() is not None and time.monotonic() < until:
        gc.collect()
    assert left() is None


def test_a_bad_item_raises_for_its_caller_only():
    thread = BatchThread(work, max_items=8)

    async def scenario():
        return await asyncio.gather(*(thread.do(n) for n in (1, -1, 2)), return_exceptions=True)

    one, bad, two = asyncio.run(scenario())

    assert (one, two) == (2, 4)
    assert str(bad) == "-1 is negative"


def test_an_idle_thread_can_wait_for_more_items(sizes):
    thread = BatchThread(work, max_items=3, wait_seconds=20)

    async def scenario():
        return await asyncio.gather(*(thread.do(n) for n in (1, 2, 3)))

    assert asyncio.run(scenario()) == [2, 4, 6]
    assert sizes == [3]


def test_a_stopped_thread_fails_its_open_items():
    gate, started = threading.Event(), threading.Event()

    def stop(items):
        started.set()
        assert gate.wait(20)
        raise SystemExit("gone")

    async def scenario():
        thread = BatchThread(stop, max_items=1)
        thread.check_health()
        calls = [asyncio.ensure_future(thread.do(number)) for number in range(3)]
        await asyncio.to_thread(started.wait, 20)
        gate.set()
        errors = await asyncio.gather(*calls, return_exceptions=True)
        with pytest.raises(EngineError, match="the batch thread has stopped: SystemExit: gone"):
            await thread.do(4)
        with pytest.raises(EngineError):
            thread.check_health()
        return errors

    errors = asyncio.run(scenario())

    assert all(isinstance(error, EngineError) for error in errors)
    assert [error.in_flight for error in errors] == [True, False, False]


def test_a_caller_whose_event_loop_has_closed_stops_no_other(sizes):
    gated = Gated()
    thread = BatchThread(gated, max_items=1)

    async def cancel_call():
        call = asyncio.ensure_future(thread.do("first"))
        await asyncio.to_thread(gated.started.wait, 20)
        call.cancel()

    asyncio.run(cancel_call())
    gated.gate.set()

    assert asyncio.run(thread.do("second")) == "second"
    thread.check_health()
