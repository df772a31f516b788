"""The command: what it lists, how it ends, and where it says so."""

import pytest

from mats_ray.cli.main import COMMANDS, main


def last_line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command, capsys):
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
