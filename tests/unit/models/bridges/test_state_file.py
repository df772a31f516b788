"""A bridge's file is its own, whole, and of one width; all else is one line."""

import pytest
import torch
from safetensors.torch import save_file

from mats_ray.errors import ModelError
from mats_ray.models.bridges.mean_shift import MeanShift
from mats_ray.models.bridges.spectral import Spectral
from mats_ray.models.bridges.state_file import load_state, save_state

SHAPES = {"mean": "C", "axes": "KC"}
TENSORS = {"mean": torch.ones(4), "axes": torch.ones(2, 4)}


def test_what_was_saved_comes_back(tmp_path):
    save_state(tmp_path / "s", "spectral", TENSORS, {"pairs": "3"})

    tensors, provenance = load_state(tmp_path / "s", "spectral", SHAPES)

    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        name: tensor.tolist() for name, tensor in TENSORS.items()
    }
    assert provenance == {"pairs": "3"}


def test_a_missing_file_says_what_makes_one(tmp_path):
    with pytest.raises(
        ModelError, match=r"no state of the bridge 'mean_shift' at .*; make one with `mats mem"
    ):
        MeanShift.load(tmp_path / "s")


def test_the_file_of_another_bridge_is_refused(tmp_path):
    MeanShift.fit(torch.eye(3), torch.eye(3)).save(tmp_path / "s")

    with pytest.raises(
        ModelError, match=r"s is not the state of a bridge 'spectral'; it holds audio_mean, text"
    ):
        Spectral.load(tmp_path / "s")


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    save_state(tmp_path / "s", "spectral", TENSORS, {})
    (tmp_path / "s").write_bytes((tmp_path / "s").read_bytes()[:-8])

    with pytest.raises(ModelError, match="cannot be read"):
        load_state(tmp_path / "s", "spectral", SHAPES)


@pytest.mark.parametrize(
    "tensors",
    [
        {"mean": torch.ones(4)},
        {"mean": torch.ones(4), "axes": torch.ones(2, 3)},
        {"mean": torch.ones(4), "axes": torch.full((2, 4), torch.nan)},
        {"mean": torch.ones(4), "axes": torch.tensor(1.0)},
    ],
)
def test_tensors_that_do_not_fit_together_are_refused(tmp_path, tensors):
    save_state(tmp_path / "s", "spectral", tensors, {})

    with pytest.raises(ModelError, match="the state of the bridge 'spectral' at"):
        load_state(tmp_path / "s", "spectral", SHAPES)


def test_a_provenance_that_is_no_json_is_refused(tmp_path):
    save_file(TENSORS, tmp_path / "s", metadata={"mats_bridge_spectral": "[1"})

    with pytest.raises(ModelError, match="the provenance of the bridge's state"):
        load_state(tmp_path / "s", "spectral", SHAPES)
