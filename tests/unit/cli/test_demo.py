"""``mats demo``: an unsuitable configuration is refused before Ray starts (the rest: integration)."""

import sys

from mats_ray.cli.main import main


def test_a_configuration_without_a_toy_world_is_bad_usage(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "mats_ray.cli.on_ray", None)

    assert main(["demo", "--config", "configs/mats_gpt2.yaml"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("mats demo: error: the demo needs a configuration with a toy section, for example")


def test_another_bridge_than_santa_is_bad_usage(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "mats_ray.cli.on_ray", None)

    assert main(["demo", "--config", "configs/toy.yaml", "--set", "model.bridge=projection"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("mats demo: error: the demo measures Santa, and model.bridge is 'projection'")
