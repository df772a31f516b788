"""Checkpoints: what comes back is what was kept, or nothing does."""

import json

import pytest
import torch

from mats_ray.errors import TrainingError
from mats_ray.train.engine import EngineState
from mats_ray.train.state import (
    COMMITTED,
    MOMENTS,
    STATE,
    TRAINED,
    RunState,
    check_fits,
    load_checkpoint,
    run_state,
    save_checkpoint,
)

RUN = RunState(step=4, samples=32, run_hash="abc", version="0.1.0")


def engine_state():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 4, generator=generator)
    return EngineState(
        trained={"mapper.weight": weight, "mapper.bias": torch.randn(3, generator=generator)},
        moments={"exp_avg/mapper.weight": weight.t(), "exp_avg_sq/mapper.weight": weight**2},
        num_updates=4,
    )


@pytest.fixture
def checkpoint(tmp_path):
    save_checkpoint(tmp_path / "checkpoint", engine_state(), RUN)
    return tmp_path / "checkpoint"


def test_what_comes_back_is_what_was_kept_to_the_last_bit(checkpoint):
    state, run = load_checkpoint(checkpoint)
    kept = engine_state()

    assert run == RUN
    assert state.num_updates == 4
    for found, expected in ((state.trained, kept.trained), (state.moments, kept.moments)):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_same_state_gives_the_same_bytes(checkpoint, tmp_path):
    save_checkpoint(tmp_path / "again", engine_state(), RUN)

    for path in checkpoint.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_a_checkpoint_without_its_mark_is_refused(checkpoint):
    (checkpoint / COMMITTED).unlink()

    with pytest.raises(TrainingError, match=f"^the checkpoint {checkpoint} was not finished: {COMMITTED}"):
        load_checkpoint(checkpoint)


def test_a_mark_that_is_cut_off_is_refused(checkpoint):
    text = (checkpoint / COMMITTED).read_text()
    (checkpoint / COMMITTED).write_text(text[: len(text) // 2])

    with pytest.raises(TrainingError, match="was not finished"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("name", [TRAINED, MOMENTS, STATE])
def test_a_missing_file_is_refused(checkpoint, name):
    (checkpoint / name).unlink()

    with pytest.raises(TrainingError, match=f"^the checkpoint {checkpoint} lacks {name}$"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("name", [TRAINED, MOMENTS, STATE])
def test_a_file_that_is_cut_off_is_refused(checkpoint, name):
    data = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(data[:-3])

    with pytest.raises(TrainingError, match=f"{name} .*: {len(data) - 3} bytes instead of {len(data)}"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("name", [TRAINED, MOMENTS, STATE])
def test_one_altered_byte_is_refused(checkpoint, name):
    data = bytearray((checkpoint / name).read_bytes())
    data[-2] ^= 1
    (checkpoint / name).write_bytes(data)

    with pytest.raises(TrainingError, match=f"{checkpoint / name} is not what was committed"):
        load_checkpoint(checkpoint)


def test_nothing_at_all_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="was not finished"):
        load_checkpoint(tmp_path / "nowhere")


def test_the_mark_covers_every_other_file(checkpoint):
    marked = json.loads((checkpoint / COMMITTED).read_text())

    assert set(marked) == {path.name for path in checkpoint.iterdir()} - {COMMITTED}


def test_the_state_of_another_version_is_named(checkpoint):
    with pytest.raises(TrainingError, match=r"state\.json of mats_ray 9\.0 cannot be read: .*'pace'"):
        run_state({"step": 1, "samples": 8, "run_hash": "a", "version": "9.0", "pace": 3})


def test_weights_of_another_architecture_are_counted_and_named():
    state = engine_state()
    here = {"mapper.weight": torch.zeros(3, 5), "lora": torch.zeros(2)}

    check_fits(state, state.trained, where="x")
    with pytest.raises(
        TrainingError,
        match=r"^x is of another architecture: 3 of 2 tensors differ, first lora: absent there, \(2,\)",
    ):
        check_fits(state, here, where="x")
