import pytest

from mats_ray.serving.batches import isolate


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
