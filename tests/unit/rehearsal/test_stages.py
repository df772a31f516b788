"""A stage is measured; one that fails, or cannot be killed in time, ends in one line that names its log."""

import sys

import pytest

from mats_ray.errors import RehearsalError
from mats_ray.rehearsal.stages import StageRunner, size_of


@pytest.fixture
def lines():
    return []


@pytest.fixture
def runner(tmp_path, lines):
    return StageRunner(tmp_path / "logs", lines.append)


def python(code):
    return [sys.executable, "-c", code]


def test_a_stage_has_time_memory_and_size(runner, lines, tmp_path):
    out = tmp_path / "out"
    code = f"from pathlib import Path; Path({str(out)!r}).write_bytes(b'x' * 1000); print('written')"

    runner.run("write", python(code), wrote=[out])

    (result,) = runner.results
    assert (result.name, result.disk_bytes) == ("write", 1000)
    assert result.seconds > 0
    assert result.total_gb > 0
    assert runner.log("write").read_text() == "written\n"
    assert lines[-1].startswith("write: ")


def test_a_failed_stage_names_its_last_line_and_its_log(runner):
    with pytest.raises(
        RehearsalError, match=r"stage a b failed with exit code 3: no bucket \(log: .*a_b.log\)"
    ):
        runner.run("a b", python("import sys; print('no bucket'); sys.exit(3)"))


def test_a_stage_is_killed_when_its_condition_is_met(runner, tmp_path):
    flag = tmp_path / "flag"
    code = f"from pathlib import Path; Path({str(flag)!r}).touch(); import sys; sys.stdin.read()"
    code += "; import threading; threading.Event().wait()"

    runner.kill("train", python(code), flag.exists)

    assert runner.results[-1].name == "train"


def test_a_stage_that_ends_before_it_is_killed_is_an_error(runner):
    with pytest.raises(RehearsalError, match="stage train ended before it was killed: done"):
        runner.kill("train", python("print('done')"), lambda: False)


def test_size_of_what_is_not_there(tmp_path):
    assert size_of(tmp_path / "none") == 0
