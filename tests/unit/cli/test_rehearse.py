"""What ``mats rehearse`` refuses before it writes anything, and what it prints where a stage fails."""

import sys

import pytest

from mats_ray.cli.main import main
from mats_ray.rehearsal.changes import Inputs

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


def test_a_failed_stage_leaves_the_table_of_the_others(tmp_path, monkeypatch, capsys):
    """No stand-ins are written: one stage ends, and the next fails."""
    inputs = Inputs(clap="c.pth", clap_tokenizer=None, llm="l", sources=[], output_dir=str(tmp_path / "run"))
    monkeypatch.setattr("mats_ray.rehearsal.run._stand_ins", lambda *_, **__: inputs)
    monkeypatch.setattr("mats_ray.rehearsal.run._train_stages", two_stages)

    assert main([*GPT2, "--out", str(tmp_path)]) == 1

    printed = capsys.readouterr()
    assert "| first | " in printed.out
    assert (tmp_path / "rehearsal.md").read_text() == printed.out
    assert printed.err.splitlines()[-1].endswith(f"exit code 3: no room (log: {tmp_path}/logs/second.log)")


def two_stages(runner, *_):
    runner.run("first", [sys.executable, "-c", ""])
    runner.run("second", [sys.executable, "-c", "print('no room'); raise SystemExit(3)"])
