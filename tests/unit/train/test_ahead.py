"""An iterator that works ahead: the same items in the same order, errors in their place, no thread left."""

import itertools
import threading

import pytest

from mats_ray.train.ahead import Ahead


def test_it_gives_what_the_source_gives_and_ends_for_good():
    ahead = Ahead(range(100), depth=3)

    assert list(ahead) == list(range(100))
    assert list(ahead) == []


def test_it_begins_before_anyone_asks_and_stays_within_its_depth():
    taken = threading.Semaphore(0)
    seen = []

    def source():
        for number in itertools.count():
            seen.append(number)
            taken.release()
            yield number

    ahead = Ahead(source(), depth=2)
    for _ in range(3):  # two are ready, a third is in hand
        assert taken.acquire(timeout=10)
    assert not taken.acquire(timeout=0.05)
    assert seen == [0, 1, 2]

    assert next(ahead) == 0
    assert taken.acquire(timeout=10)
    ahead.close()


def test_an_error_comes_where_the_next_item_would_have():
    def source():
        yield 1
        raise LookupError("a file is gone")

    ahead = Ahead(source(), depth=5)

    assert next(ahead) == 1
    for _ in range(2):
        with pytest.raises(LookupError, match="a file is gone"):
            next(ahead)


def test_closing_ends_the_thread_even_if_nobody_takes_what_is_ready():
    before = threading.active_count()
    ahead = Ahead(itertools.count(), depth=1)

    ahead.close()

    assert threading.active_count() == before
