import gc

import pytest

from mats_ray.models.startup import without_garbage_collection


@pytest.fixture(autouse=True)
def collection():
    yield
    gc.unfreeze()
    gc.enable()


@without_garbage_collection
def load(number):
    assert not gc.isenabled()
    return [[] for _ in range(number)]


def test_collection_is_off_inside_and_on_again_afterwards():
    assert len(load(number=3)) == 3

    assert gc.isenabled()


def test_collection_is_on_again_after_an_error():
    with pytest.raises(TypeError):
        load(None)

    assert gc.isenabled()


def test_collection_that_was_off_stays_off():
    gc.disable()

    load(3)

    assert not gc.isenabled()


def test_what_was_made_inside_is_not_searched_again():
    before = gc.get_freeze_count()

    kept = load(1000)

    assert gc.get_freeze_count() - before >= len(kept)
