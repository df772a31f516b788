"""A model directory loads the bridge that it names, with its numbers; earlier directories have Santa."""

import json
import shutil
from typing import get_args

import pytest

from mats_ray.config.bridge import STATE_FILES, BridgeName
from mats_ray.errors import ModelError
from mats_ray.models.bridges.mean_shift import MeanShift
from mats_ray.models.bridges.spectral import Spectral
from mats_ray.models.bridges.table import BRIDGES, load_bridge, load_provenance
from mats_ray.models.directory import read_info
from mats_ray.models.santa import SantaMemory
from tests.unit.models.bridges.cases import pairs, units
from tests.world import CLAP_DIM


@pytest.fixture
def directory(model_dir, tmp_path):
    return shutil.copytree(model_dir, tmp_path / "model")


def put_states(folder, dim=CLAP_DIM):
    audio, text = pairs(20, dim=dim)
    MeanShift.fit(text, audio, provenance={"clap": "a"}).save(folder / STATE_FILES["mean_shift"])
    Spectral.fit(audio, text, provenance={"clap": "b", "pairs": "20"}).save(folder / STATE_FILES["spectral"])
    SantaMemory.build(units(9, dim=dim), num_clusters=1, provenance={"clap": "c"}).save(
        folder / STATE_FILES["projection"]
    )


def named(directory, bridge, **sections):
    tree = json.loads((directory / "config.json").read_text())
    tree["model"]["bridge"] = bridge
    (directory / "config.json").write_text(json.dumps(tree | sections))
    return read_info(directory)


def test_every_name_has_a_row_and_every_state_a_file():
    names = set(get_args(BridgeName))
    assert set(BRIDGES) == names
    assert set(STATE_FILES) == names - {"none"}


@pytest.mark.parametrize("name", get_args(BridgeName))
def test_the_bridge_that_is_named_is_loaded(directory, name):
    put_states(directory)

    assert load_bridge(named(directory, name)).name == name


def test_its_numbers_are_those_of_the_directory(directory):
    put_states(directory)

    spectral = load_bridge(named(directory, "spectral", spectral={"num_axes": 2}))
    projection = load_bridge(named(directory, "projection", projection={"temperature": 0.5}))

    assert spectral.description() == "spectral, 2 axes of 20 pairs"
    assert projection.description() == "projection onto 9 texts, tau=0.5"


def test_a_directory_of_an_earlier_version_has_santa_or_none(directory):
    tree = json.loads((directory / "config.json").read_text())
    for key in ("projection", "spectral"):
        tree.pop(key)
    tree["model"].pop("bridge")
    (directory / "config.json").write_text(json.dumps(tree))
    assert load_bridge(read_info(directory)).name == "santa"

    tree["santa"]["enabled"] = False
    (directory / "config.json").write_text(json.dumps(tree))
    assert load_bridge(read_info(directory)).name == "none"


@pytest.mark.parametrize("name", ["mean_shift", "projection", "spectral"])
def test_a_state_of_another_width_is_refused(directory, name):
    put_states(directory, dim=7)

    with pytest.raises(ModelError, match=rf"{STATE_FILES[name]} is 7-d, the model's CLAP is {CLAP_DIM}-d$"):
        load_bridge(named(directory, name))


@pytest.mark.parametrize(("name", "clap"), [("mean_shift", "a"), ("spectral", "b"), ("projection", "c")])
def test_a_state_says_where_it_comes_from(tmp_path, name, clap):
    put_states(tmp_path)

    assert load_provenance(name, tmp_path / STATE_FILES[name])["clap"] == clap
