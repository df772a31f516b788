"""The shared arguments: files in order, then single values."""

import argparse

import pytest

from mats_ray.cli.args import add_config_arguments, config_of


def parsed(*words):
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    return parser.parse_args(words)


def test_later_files_win_and_single_values_over_them(tmp_path):
    over = tmp_path / "over.yaml"
    over.write_text("seed: 3\nname: over\n")

    config = config_of(parsed("--config", "configs/toy.yaml", "--config", str(over), "--set", "seed=4"))

    assert (config.name, config.seed, config.model.clap.dim) == ("over", 4, 256)


def test_a_configuration_is_required():
    with pytest.raises(SystemExit):
        parsed()
