"""The command: what it lists, its exit codes, and where errors are printed."""

import subprocess
import sys
from pathlib import Path

import pytest

from mats_ray import __version__
from mats_ray.cli.main import COMMANDS, main


def last_line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert all(f"  {name} " in output for name in COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_a_help_text(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])

    assert ended.value.code == 0
    assert COMMANDS[command] in " ".join(capsys.readouterr().out.split())


def test_bad_usage_ends_with_2():
    with pytest.raises(SystemExit) as ended:
        main(["train"])

    assert ended.value.code == 2


def test_a_configuration_fault_is_one_line_and_2(capsys):
    code = main(["train", "--config", "configs/toy.yaml", "--set", "train.optim.lrr=1"])

    assert code == 2
    line = last_line(capsys)
    assert line.startswith("mats train: error: ")
    assert "unknown key train.optim.lrr = 1; allowed here: betas, lr" in line


def test_a_failed_run_is_one_line_and_1(capsys, tmp_path):
    assert main(["ask", str(tmp_path / "none.wav"), "--model", str(tmp_path)]) == 1
    assert "none.wav" in last_line(capsys)


@pytest.mark.parametrize("words", [[], ["tarin"], ["config", "show"], ["--no-such-flag"]], ids=" ".join)
def test_a_command_line_that_makes_no_sense_ends_with_2(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)

    assert ended.value.code == 2
    assert last_line(capsys).startswith("mats")


def test_results_go_to_stdout_and_nothing_else_does(capsys):
    assert main(["config", "validate", "--config", "configs/toy.yaml"]) == 0

    out, err = capsys.readouterr()
    assert out == "configs/toy.yaml: valid\n"
    assert err == ""


def test_an_interrupt_is_one_line_and_130(capsys, monkeypatch):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("mats_ray.cli.config.run", interrupted)

    assert main(["config", "show", "--config", "configs/toy.yaml"]) == 130
    assert last_line(capsys) == "mats config: interrupted"


def test_it_is_a_program_and_a_module():
    mats = str(Path(sys.executable).with_name("mats"))
    output = [
        subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
        for command in ([mats], [sys.executable, "-m", "mats_ray"])
    ]

    assert output == [f"mats_ray {__version__}\n"] * 2
