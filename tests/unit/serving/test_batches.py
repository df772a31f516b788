import asyncio
import threading

import pytest

from mats_ray.serving.batches import Gathering, isolate


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


def test_what_comes_while_a_batch_is_computed_goes_on_together():
    computing, done = threading.Event(), threading.Event()
    passed = []

    def slow(items):
        computing.set()
        assert done.wait(20)
        return items

    async def request(gathering, name):
        await gathering.wait()
        passed.append((name, done.is_set()))

    async def scenario():
        gathering = Gathering()
        await request(gathering, "first")
        batch = asyncio.create_task(gathering.compute(slow, ["first"]))
        await asyncio.to_thread(computing.wait, 20)
        late = [asyncio.create_task(request(gathering, name)) for name in ("second", "third")]
        await asyncio.sleep(0)
        done.set()
        await asyncio.gather(batch, *late)
        return [outcome.unwrap() for outcome in batch.result()]

    assert asyncio.run(scenario()) == ["first"]
    assert passed == [("first", False), ("second", True), ("third", True)]


def test_a_batch_that_failed_lets_the_next_one_through():
    async def scenario():
        gathering = Gathering()
        [outcome] = await gathering.compute(work, [-1])
        await gathering.wait()
        return outcome.error

    assert isinstance(asyncio.run(scenario()), ValueError)
