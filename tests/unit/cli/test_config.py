"""``mats config``: what is shown is what was loaded."""

from mats_ray.cli.main import main
from mats_ray.config import RunConfig, load_config


def test_what_is_shown_loads_again(capsys, tmp_path):
    assert main(["config", "show", "--config", "configs/toy.yaml", "--set", "seed=7"]) == 0

    shown = tmp_path / "shown.yaml"
    shown.write_text(capsys.readouterr().out)
    assert load_config(shown) == load_config("configs/toy.yaml", ["seed=7"])


def test_a_valid_configuration_is_reported_as_valid(capsys):
    assert main(["config", "validate", "--config", "configs/mats_llama_7b.yaml"]) == 0
    assert capsys.readouterr().out == "configs/mats_llama_7b.yaml: valid\n"


def test_an_invalid_one_ends_with_2(capsys):
    assert main(["config", "validate", "--config", "no/such.yaml"]) == 2
    assert "no configuration file at no/such.yaml" in capsys.readouterr().err


def test_without_arguments_the_defaults_are_shown_and_load_with_what_is_required(capsys, tmp_path):
    assert main(["config", "show"]) == 0

    shown = tmp_path / "shown.yaml"
    shown.write_text(capsys.readouterr().out)
    required = {"model": {"clap": {"ref": "clap.pt"}, "llm": {"path": "llama"}}}
    assert load_config(shown, ["model.clap.ref=clap.pt", "model.llm.path=llama"]).model_dump() == (
        RunConfig.model_validate(required).model_dump()
    )
    assert "must name model.clap.ref and model.llm.path" in shown.read_text()


def test_there_is_nothing_to_validate_without_a_file(capsys):
    assert main(["config", "validate"]) == 2
    assert "no configuration file given: --config YAML" in capsys.readouterr().err
