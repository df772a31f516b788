"""``mats config``: what is shown is what was loaded."""

from mats_ray.cli.main import main
from mats_ray.config import load_config


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
