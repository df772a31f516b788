"""The model card says what the model is made of, how it was trained and how it is used."""

import yaml

from mats_ray import __version__
from mats_ray.config import RunConfig
from mats_ray.train.card import model_card


def card(**changes):
    config = RunConfig.model_validate({"name": "birds", "seed": 7, "toy": {}} | changes)
    return model_card(config, {"loss": 0.123456789, "step": 600})


def test_the_card_tells_parts_training_and_use():
    text = card(model={"noise": {"variance": 0.02}, "mapper": {"num_layers": 3}}, train={"num_steps": 600})

    for said in (
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
        assert said in text


def test_a_model_trained_whole_says_so():
    assert "trained: all weights" in card(model={"llm": {"train": "full"}})


def test_the_front_matter_is_yaml_a_hub_reads():
    _, front, _ = card().split("---\n", 2)

    assert yaml.safe_load(front)["library_name"] == "mats_ray"
