"""`mats evaluate`: errors are one line before Ray starts; lists, scores again, compares."""

import sys

import pytest

from mats_ray.cli.main import main
from tests.unit.evaluate.logs import BENCHMARK, row, write_log


@pytest.fixture
def no_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "mats_ray.cli.on_ray", None)


@pytest.fixture
def tiny(monkeypatch):
    from mats_ray.evaluate import compare, run

    for module in (compare, run):
        monkeypatch.setattr(module, "find_benchmark", lambda name: BENCHMARK)


def last_line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a benchmark with --benchmark (--list shows them), or a --config; see --help"),
        (["--benchmark", "esc50", "--out", "o"], "benchmarks.0.annotations is missing"),
        (["--benchmark", "esc50", "--annotations", "a.csv"], "out is missing"),
        (["--audio", "x", "--out", "o"], "--audio belongs to one benchmark: name it with --benchmark"),
        (
            ["--benchmark", "esc51", "--annotations", "a", "--answers", "b", "--out", "o"],
            "benchmark 'esc51' is unknown",
        ),
        (
            ["--benchmark", "esc50", "--annotations", "a", "--out", "o", "--prompt", "mine"],
            "prompt = 'mine' is not allowed",
        ),
    ],
)
def test_bad_usage_is_one_line_and_2(no_ray, capsys, arguments, message):
    code = main(["evaluate", *arguments])

    assert message in last_line(capsys)
    assert code == 2


def test_the_benchmarks_are_listed_with_what_they_read(no_ray, capsys):
    assert main(["evaluate", "--list"]) == 0

    assert "esc50: ESC-50, 2000 samples, all five folds; reads esc50.csv" in capsys.readouterr().out


def test_saved_answers_are_scored_again(no_ray, tiny, tmp_path, capsys):
    write_log(tmp_path / "tiny", [row("a", "dog", "dog"), row("b", "dog", "rain")])

    assert main(["evaluate", "--rescore", str(tmp_path)]) == 0

    assert capsys.readouterr().out.startswith("tiny: accuracy 0.5000 ± ")
    assert (tmp_path / "tiny/scores.json").is_file()


def test_two_evaluations_are_compared(no_ray, tiny, tmp_path, capsys):
    write_log(tmp_path / "a/tiny", [row("a", "dog", "dog"), row("b", "dog", "dog")])
    write_log(tmp_path / "b/tiny", [row("a", "dog", "dog"), row("b", "dog", "rain")])

    assert main(["evaluate", "--compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path}/a less {tmp_path}/b:"
    assert lines[1].startswith("  tiny: accuracy 1.0000 and 0.5000, difference +0.5000 (")
    assert lines[1].endswith("2 samples; better in 1, worse in 0")


def test_a_folder_without_an_evaluation_is_one_line_and_1(no_ray, tmp_path, capsys):
    assert main(["evaluate", "--rescore", str(tmp_path)]) == 1
    assert "holds no evaluation" in last_line(capsys)
