import gc
import warnings

import pytest

from mats_ray.models.startup import quiet_transformers, without_garbage_collection


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


def load_with_bar_and_warnings():
    from transformers.utils.logging import tqdm

    for _ in tqdm(range(3), desc="Loading weights"):
        pass
    warnings.warn("`is_gradient_checkpointing` is deprecated and will be removed in v6.", FutureWarning, 2)
    warnings.warn("this model needs another tokenizer", FutureWarning, 2)


def test_loading_shows_no_bar_and_of_two_warnings_the_one_for_users(capfd):
    with pytest.warns(FutureWarning) as shown, quiet_transformers():
        load_with_bar_and_warnings()

    assert [str(one.message) for one in shown] == ["this model needs another tokenizer"]
    assert capfd.readouterr().err == ""


def test_bars_and_warnings_of_the_process_are_as_before_afterwards(capfd):
    with pytest.raises(KeyError), quiet_transformers():
        raise KeyError

    with pytest.warns(FutureWarning) as shown:
        load_with_bar_and_warnings()

    assert len(shown) == 2
    assert "Loading weights: 100%" in capfd.readouterr().err
