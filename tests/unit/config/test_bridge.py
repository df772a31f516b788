"""One key decides the bridge; the earlier switch of Santa stays coherent with it."""

import pytest

from mats_ray.config import RunConfig, load_config
from mats_ray.config.bridge import ProjectionConfig, SpectralConfig
from mats_ray.errors import ConfigError
from tests.unit.config.refusals import refusal


@pytest.fixture
def toy(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text("toy: {}\noutput_dir: out\n")
    return path


@pytest.mark.parametrize(
    ("changes", "bridge", "file"),
    [
        ([], "santa", "out/santa_memory.safetensors"),
        (["santa.enabled=false"], "none", "out/santa_memory.safetensors"),
        (["santa.enabled=false", "model.bridge=none"], "none", "out/santa_memory.safetensors"),
        (["model.bridge=none"], "none", "out/santa_memory.safetensors"),
        (["model.bridge=mean_shift"], "mean_shift", "out/mean_shift.safetensors"),
        (["model.bridge=projection"], "projection", "out/text_support.safetensors"),
        (["model.bridge=spectral", "santa.mix=0.5"], "spectral", "out/spectral.safetensors"),
        (["model.bridge=spectral", "memory.path=here"], "spectral", "here"),
    ],
)
def test_the_bridge_in_use_and_its_file(toy, changes, bridge, file):
    config = load_config(toy, changes)

    assert (config.bridge, config.memory_path) == (bridge, file)


def test_santa_switched_off_beside_another_bridge_is_refused(toy):
    with pytest.raises(
        ConfigError, match=r"santa\.enabled=False means no bridge, and model\.bridge is 'spectral'"
    ):
        load_config(toy, ["santa.enabled=false", "model.bridge=spectral"])


def test_an_unknown_bridge_is_refused(toy):
    with pytest.raises(ConfigError, match=r"model\.bridge = 'mlp' is not allowed: input should be 'santa'"):
        load_config(toy, ["model.bridge=mlp"])


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (ProjectionConfig, "temperature=0", "temperature = 0 is not allowed: must be a number from 0.0001"),
        (ProjectionConfig, "temperature=.nan", "temperature = nan is not allowed"),
        (SpectralConfig, "num_axes=0", "num_axes = 0 is not allowed: input should be greater than or equal"),
        (SpectralConfig, "num_axes=100000", "num_axes = 100000 is not allowed"),
    ],
)
def test_a_number_that_is_not_allowed_is_refused(kind, change, message):
    assert refusal(kind, change).startswith(message)


def test_the_flags_of_another_run_carry_the_bridges_state():
    named = {"clap": {"ref": "c"}, "llm": {"path": "l"}, "bridge": "spectral"}

    flags = RunConfig.model_validate({"model": named}).own_folder_flags

    assert flags.endswith("--set memory.path=out/spectral.safetensors")
