"""Stages: announced, timed, and going on after an interruption; a folder belongs to one demo."""

import json

import pytest

from mats_ray.errors import ConfigError
from mats_ray.toy.demo.stages import FILE, Stages, claim_folder
from tests.toy import tiny_config


@pytest.fixture
def config(tmp_path):
    return tiny_config(tmp_path / "demo")


def test_a_stage_returns_its_result_and_is_announced_and_timed(config):
    lines = []
    stages = Stages(claim_folder(config), lines.append)

    assert stages.run("boil water", lambda: 100) == 100
    assert lines == ["== boil water"]
    assert stages.seconds.keys() == {"boil water"}


def test_an_interrupted_stage_keeps_its_time_and_goes_on(config):
    def interrupted():
        raise KeyboardInterrupt

    folder, lines = claim_folder(config), []
    with pytest.raises(KeyboardInterrupt):
        Stages(folder, lines.append).run("train", interrupted)
    tree = json.loads((folder / FILE).read_text())
    tree["seconds"]["train"] = 50.0
    (folder / FILE).write_text(json.dumps(tree))

    again = Stages(claim_folder(config), lines.append)
    again.run("train", lambda: None)

    assert again.seconds["train"] >= 50
    assert lines == ["== train", "== train"]


def test_a_finished_stage_keeps_its_time_when_it_is_run_again(config):
    folder, lines = claim_folder(config), []
    Stages(folder, lines.append).run("train", lambda: None)
    before = Stages(folder, lines.append).seconds

    assert Stages(folder, lines.append).run("train", lambda: 7) == 7
    assert Stages(folder, lines.append).seconds == before
    assert lines[-1] == "== train (done before)"


def test_the_same_demo_may_go_on_in_its_folder(config):
    assert claim_folder(config) == claim_folder(config)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "{'seed': 0}, not {'seed': 1}"),
        ({"toy": {"num_test_clips": 9}}, "{'clips': 4}, not {'clips': 9}"),
        ({"train": {"num_steps": 7}}, "configuration"),
    ],
)
def test_another_demo_in_the_folder_is_refused_in_one_line(config, changes, named):
    claim_folder(config)

    with pytest.raises(ConfigError) as refused:
        claim_folder(config.replace(**changes))

    assert named in str(refused.value)
    assert config.output_dir in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_that_cannot_be_one_is_refused_in_one_line(config, tmp_path):
    (tmp_path / "file").write_text("")

    for place in (str(tmp_path / "file"), str(tmp_path / "file" / "below"), "s3://bucket/demo"):
        with pytest.raises(ConfigError) as refused:
            claim_folder(config.replace(output_dir=place))
        assert place in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_damaged_record_is_named(config):
    folder = claim_folder(config)
    (folder / FILE).write_text("{")

    with pytest.raises(ConfigError, match="cannot use its folder"):
        claim_folder(config)
