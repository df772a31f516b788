"""The command: what it lists, its exit codes, and where errors are printed."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mats_ray import __version__
from mats_ray.cli.main import COMMANDS, main
from mats_ray.data.triplets import triplet_table
from mats_ray.tasks import Task
from mats_ray.types import Triplet

COLUMNS = ("id", "text", "instruction", "answer", "source", "split", "license")
TRIPLET = Triplet(task=Task.CAPTION, **dict.fromkeys(COLUMNS, "a dog"))


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


@pytest.mark.parametrize("words", [[], ["tarin"], ["config"], ["--no-such-flag"]], ids=" ".join)
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


RUN = """
name: x
output_dir: {folder}/out
model: {{clap: {{ref: {folder}/no-clap}}, llm: {{path: {folder}/no-llm}}}}
data:
  triplets: {folder}/{triplets}
  prepare: {{sources: [{{source: {source}, path: {folder}/{file}, split: train}}]}}
"""
BAD_INPUTS = {
    "prepare: another header": (
        ["prepare", "RUN"],
        {"file": "other.csv"},
        "other.csv has no column file_name, ",
    ),
    "prepare --dry-run: another header": (
        ["prepare", "--dry-run", "RUN"],
        {"file": "other.csv"},
        "other.csv has no column file_name, ",
    ),
    "prepare: no file": (["prepare", "RUN"], {"file": "none.csv"}, "nothing at "),
    "prepare: no gzip": (
        ["prepare", "RUN"],
        {"file": "other.csv.gz"},
        "other.csv.gz is compressed and damaged, or not",
    ),
    "prepare: no JSON": (["prepare", "RUN"], {"source": "wavcaps_bbc", "file": "other.csv"}, "other.csv"),
    "prepare: no names beside": (
        ["prepare", "RUN"],
        {"source": "audioset", "file": "other.csv"},
        "name it in companions: {names: PATH}",
    ),
    "embed: no triplets": (["embed", "RUN"], {"triplets": "none"}, "no Parquet files at "),
    "embed: no Parquet": (["embed", "RUN"], {"triplets": "other.parquet"}, "not a readable Parquet file"),
    "embed: other columns": (
        ["embed", "RUN"],
        {"triplets": "columns.parquet"},
        "lacks the triplet columns id, ",
    ),
    "embed: no CLAP": (["embed", "RUN"], {"triplets": "triplets.parquet"}, "no CLAP at "),
    "memory: nothing embedded": (["memory", "RUN"], {}, "no Parquet files at "),
    "train: nothing embedded": (["train", "RUN"], {}, "no Santa memory at "),
    "caption: no audio": (
        ["caption", "--model", "MODEL", "--audio", "none", "--out", "out"],
        {},
        "no file or ",
    ),
    "caption: no model": (
        ["caption", "--model", "none", "--audio", ".", "--out", "out"],
        {},
        "no model directory",
    ),
    "ask: no audio": (["ask", "other.csv", "--model", "MODEL"], {}, "other.csv"),
    "serve: no model": (["serve", "--model", "none"], {}, "no model directory at "),
    "convert: no checkpoint": (["convert", "clap", "other.csv", "clap"], {}, "is not a file of torch.save"),
    "plan: no configuration": (["plan", "--config", "none.yaml"], {}, "none.yaml"),
    "demo: no toy section": (["demo", "RUN"], {}, "needs a configuration with a toy section"),
}
"""Command line, what its configuration names, and what the one line says. None of them starts Ray."""


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_a_bad_input_is_one_line_of_ours_and_nothing_else(case, model_dir, tmp_path, monkeypatch, capfd):
    words, named, message = BAD_INPUTS[case]
    (tmp_path / "other.csv").write_text("name,words\na.wav,A dog\n")
    for name in ("other.csv.gz", "other.parquet"):
        (tmp_path / name).write_text("neither\n")
    pq.write_table(pa.table({"caption": ["A dog"]}), tmp_path / "columns.parquet")
    pq.write_table(triplet_table([TRIPLET]), tmp_path / "triplets.parquet")
    named = {"folder": tmp_path, "triplets": "none", "source": "clotho", "file": "none.csv"} | named
    (tmp_path / "run.yaml").write_text(RUN.format(**named))
    monkeypatch.chdir(tmp_path)
    options = {"RUN": ["--config", "run.yaml"], "MODEL": [str(model_dir)]}

    code = main([word for one in words for word in options.get(one, [one])])

    out, err = capfd.readouterr()
    assert code in (1, 2)
    assert not out or "--dry-run" in words  # which lists the files first
    (line,) = err.splitlines()
    assert line.startswith(f"mats {words[0]}: error: ")
    assert message in line


@pytest.mark.parametrize("arguments", [["evaluate", "--list"], ["config", "show"]])
def test_a_reader_that_has_gone_ends_a_command_without_a_word(arguments):
    """As in ``mats config show | head -1``, at whatever moment the reader goes."""
    read_end, write_end = os.pipe()
    os.close(read_end)

    done = subprocess.run(
        [sys.executable, "-m", "mats_ray", *arguments],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )

    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_pipe_that_broke_elsewhere_is_not_hidden(monkeypatch):
    def run(args):
        raise BrokenPipeError("of a socket")

    monkeypatch.setattr("mats_ray.cli.config.run", run)

    with pytest.raises(BrokenPipeError, match="of a socket"):
        main(["config", "show"])
