"""A finished run's last checkpoint becomes a model directory; its card names parts, training and use."""

import json

import pytest
import torch
import yaml

from mats_ray.config import RunConfig
from mats_ray.errors import DataError, TrainingError
from mats_ray.models.bridges.spectral import Spectral
from mats_ray.models.santa import SantaMemory
from mats_ray.storage import exists, make_folder
from mats_ray.train.export import MODEL_SUBFOLDER, export, model_card, model_settings
from mats_ray.types import CLAPIdentity
from mats_ray.version import __version__
from tests.s3 import s3_server
from tests.unit.models.bridges.cases import pairs
from tests.unit.train.small import CLAP_DIM, small_run

IDENTITY = CLAPIdentity(family="transformers", checkpoint_hash="0" * 16, dim=CLAP_DIM)


@pytest.fixture
def checkpoint(tmp_path):
    model = tmp_path / "checkpoint" / MODEL_SUBFOLDER
    (model / "llm").mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "llm" / "weights").write_text("w")
    return model.parent


def configured(output_dir, **changes):
    config = RunConfig.model_validate({"name": "birds", "toy": {}, "output_dir": str(output_dir)} | changes)
    make_folder(config.output_dir)
    return config


def put_memory(path):
    SantaMemory.build(torch.eye(4), num_clusters=2).save(path)


def test_trained_parts_memory_and_card_lie_together(checkpoint, tmp_path):
    config = configured(tmp_path / "out")
    put_memory(config.memory_path)

    export(config, checkpoint, {"loss": 0.5})

    model = tmp_path / "out" / "model"
    assert {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()} == {
        "config.json",
        "llm/weights",
        "santa_memory.safetensors",
        "README.md",
    }
    assert SantaMemory.load(model / "santa_memory.safetensors").dim == 4
    assert "| loss | 0.5 |" in (model / "README.md").read_text()
    assert not (checkpoint / MODEL_SUBFOLDER / "README.md").exists()


def test_without_santa_no_memory_is_needed(checkpoint, tmp_path):
    export(configured(tmp_path / "out", santa={"enabled": False}), checkpoint, {})

    assert not (tmp_path / "out" / "model" / "santa_memory.safetensors").exists()


def test_a_finished_run_may_be_exported_again_with_another_bridge(checkpoint, tmp_path):
    audio, text = pairs(20, dim=4)
    settings = {
        "model": {"bridge": "santa", "noise": {"variance": 0.25}},
        "santa": {"mix": 0.5},
        "name": "birds",
    }
    (checkpoint / MODEL_SUBFOLDER / "config.json").write_text(json.dumps(settings))
    config = configured(tmp_path / "out", model={"bridge": "spectral"}, spectral={"num_axes": 2})
    Spectral.fit(audio, text).save(config.memory_path)

    export(config, checkpoint, {})

    tree = json.loads((tmp_path / "out" / "model" / "config.json").read_text())
    assert tree["model"] == {"bridge": "spectral", "noise": {"variance": 0.25}}
    assert (tree["spectral"], tree["santa"]["mix"]) == ({"num_axes": 2}, 0.3)
    assert Spectral.load(tmp_path / "out" / "model" / "spectral.safetensors").dim == 4
    assert not (tmp_path / "out" / "model" / "santa_memory.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "whose"),
    [
        ('{"name": "cats"}', "the model of the run 'cats'"),
        ("{}", "a model of no run"),
        ("[1", "a model of no run"),
    ],
)
def test_the_model_of_another_run_is_not_replaced(checkpoint, tmp_path, content, whose):
    config = configured(tmp_path / "out", santa={"enabled": False})
    file = tmp_path / "out" / "model" / "config.json"
    file.parent.mkdir()
    file.write_text(content)

    with pytest.raises(
        TrainingError, match=rf"out/model holds {whose}, which the run 'birds' would replace; .*-2$"
    ):
        export(config, checkpoint, {})

    assert file.read_text() == content
    file.write_text('{"name": "birds"}')
    export(config, checkpoint, {})
    assert file.read_text() == "{}"


def test_a_model_goes_to_s3(checkpoint, tmp_path):
    with s3_server("models"):
        config = configured("s3://models/run #1", santa={"enabled": False})
        export(config, checkpoint, {})

        assert exists("s3://models/run #1/model/README.md")
        assert exists("s3://models/run #1/model/llm/weights")


def test_a_path_that_cannot_be_written_is_named(checkpoint, tmp_path):
    config = configured(tmp_path / "out", santa={"enabled": False})
    (tmp_path / "out" / "model").write_text("in the way")

    with pytest.raises(DataError, match=rf"{tmp_path}/out/model/\S+ cannot be written: "):
        export(config, checkpoint, {})


def test_settings_name_what_the_model_is_built_from(llm_path):
    settings = model_settings(small_run(llm_path), IDENTITY)

    assert settings.model.llm.path == llm_path
    assert settings.clap == IDENTITY


def card(**changes):
    config = RunConfig.model_validate({"name": "birds", "seed": 7, "toy": {}} | changes)
    return model_card(config, {"loss": 0.123456789, "step": 600})


def test_the_card_has_parts_training_and_use():
    text = card(model={"noise": {"variance": 0.02}, "mapper": {"num_layers": 3}}, train={"num_steps": 600})

    for line in (
        "# birds",
        "| CLAP | `out/toy/clap`, 1024-d, frozen |",
        "| language model | `out/toy/llm`, trained: LoRA |",
        "| mapper | 3 layers, width 1024, prefix 40 |",
        "| noise variance | 0.02 |",
        "| steps x batch | 600 x 96 |",
        "| seed | 7 |",
        f"| mats_ray | {__version__} |",
        "| loss | 0.123457 |",
        "| step | 600 |",
        "MATSPipeline.from_pretrained",
    ):
        assert line in text


def test_a_model_trained_whole_is_described_so():
    assert "trained: all weights" in card(model={"llm": {"train": "full"}})


def test_the_front_matter_is_yaml_a_hub_reads():
    _, front, _ = card().split("---\n", 2)

    assert yaml.safe_load(front)["library_name"] == "mats_ray"
