"""A stand-in is known as one: by its folder, by the model trained on it, wherever that is moved."""

import json

import pytest

from mats_ray.errors import ModelError
from mats_ray.models.directory import CONFIG, read_info
from mats_ray.models.stand_in import MARKER, is_stand_in, mark_stand_in, refuse_stand_ins
from tests.world import tiny_model_dir


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("world")


@pytest.fixture(scope="module")
def model(folder):
    return tiny_model_dir(folder)


def test_the_marker_says_what_the_folder_is(tmp_path):
    mark_stand_in(tmp_path / "vicuna", of="lmsys/vicuna-7b-v1.5")
    (tmp_path / "vicuna" / "weights.pth").touch()

    assert (tmp_path / "vicuna" / MARKER).read_text().startswith("STAND-IN for lmsys/vicuna-7b-v1.5")
    assert is_stand_in(str(tmp_path / "vicuna"))
    assert is_stand_in(str(tmp_path / "vicuna" / "weights.pth"))
    assert not is_stand_in(str(tmp_path))
    assert not is_stand_in(None)


def test_a_trained_model_has_no_stand_ins(model):
    assert read_info(model).stand_ins == ()


def test_a_model_whose_base_is_a_stand_in_is_known_as_one(model, folder):
    mark_stand_in(folder / "llm", of="x")
    try:
        assert read_info(model).stand_ins == ("llm",)
    finally:
        (folder / "llm" / MARKER).unlink()


def test_a_model_trained_on_stand_ins_stays_known_as_one(model):
    file = model / CONFIG
    tree = json.loads(file.read_text())
    file.write_text(json.dumps(tree | {"stand_ins": ["clap"]}))
    try:
        assert read_info(model).stand_ins == ("clap",)
    finally:
        file.write_text(json.dumps(tree))


def test_it_is_refused_unless_it_is_a_rehearsal():
    with pytest.raises(ModelError, match=r"out/m is of a rehearsal on stand-ins \(clap, llm\)"):
        refuse_stand_ins("out/m", ("clap", "llm"), rehearsal=False)
    refuse_stand_ins("out/m", ("clap", "llm"), rehearsal=True)
    refuse_stand_ins("out/m", (), rehearsal=False)
