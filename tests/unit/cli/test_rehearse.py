"""What ``mats rehearse`` refuses before it writes anything."""

import pytest

from mats_ray.cli.main import main

GPT2 = ["rehearse", "--config", "configs/mats_gpt2.yaml"]


@pytest.mark.parametrize(
    "scale", ["half", "layers", "layers=", "layers=0", "layers=-1", "layers=1.5", "layers=99999"]
)
def test_a_scale_that_is_none_is_refused(scale, capsys):
    assert main([*GPT2, "--scale", scale]) == 2

    assert f"--scale {scale} must be full or layers=N, N from 1 to 1000" in capsys.readouterr().err


@pytest.mark.parametrize("steps", ["1", "0", "100000"])
def test_steps_are_bounded(steps, capsys):
    assert main([*GPT2, "--steps", steps]) == 2

    assert f"--steps {steps} must be from 2 to 1000" in capsys.readouterr().err


def test_a_model_without_a_stand_in_is_refused(tmp_path, capsys):
    code = main([*GPT2, "--set", "model.llm.path=a/b", "--out", str(tmp_path / "out")])

    assert code == 2
    assert "there is no stand-in for model.llm.path=a/b" in capsys.readouterr().err


def test_it_needs_a_checkout(tmp_path, monkeypatch, capsys):
    config = tmp_path / "c.yaml"
    config.write_text("model: {clap: {ref: x}, llm: {path: openai-community/gpt2}}\n")
    monkeypatch.chdir(tmp_path)

    assert main(["rehearse", "--config", str(config)]) == 2
    assert "no jobs/train.py here" in capsys.readouterr().err
