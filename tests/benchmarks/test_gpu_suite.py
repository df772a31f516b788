"""The suite for a card: parts are kept and resumed, a failure stays in its part, all of it runs on a CPU."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gpu import report
from benchmarks.gpu.checks import outcome
from benchmarks.gpu.parts import PARTS, Outcome, Part, Table
from benchmarks.gpu.suite import Suite, revision

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "date": "2026-01-01",
    "size": "7b",
    "device": "cuda",
    "device_name": "a card",
    "revision": "abc",
    "versions": {"torch": "9"},
}
PART = Part(name="clap", module="none", limit_s=60, needs=())
CHILD = """
import json, pathlib, sys, time
name, result = sys.argv[1:]
calls = pathlib.Path(result).parent / "calls"
calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
{body}
pathlib.Path(result).write_text(json.dumps({{"figures": {{"texts_per_s": {value}}}, "failures": {failures}}}))
"""


def suite(folder, *, body="", value=1.0, failures=(), **changes):
    code = CHILD.format(body=body, value=value, failures=list(failures))
    return Suite(folder=folder, environment=ENVIRONMENT | changes, command=[sys.executable, "-c", code])


def num_calls(folder):
    return sum(len(path.read_text()) for path in folder.rglob("calls"))


def test_a_part_that_is_done_is_not_run_again(tmp_path):
    first = suite(tmp_path).run(PART, limit_s=60)
    second = suite(tmp_path, value=2.0).run(PART, limit_s=60)

    assert (first["status"], first["figures"]) == ("ok", {"texts_per_s": 1.0})
    assert second["figures"] == first["figures"]
    assert num_calls(tmp_path) == 1


@pytest.mark.parametrize("change", [{"revision": "other"}, {"size": "tiny"}, {"device_name": "another card"}])
def test_a_result_of_other_code_or_another_card_does_not_count(tmp_path, change):
    suite(tmp_path).run(PART, limit_s=60)
    found = suite(tmp_path, value=2.0, **change).run(PART, limit_s=60)

    assert found["figures"] == {"texts_per_s": 2.0}


def test_a_part_can_be_measured_again(tmp_path):
    suite(tmp_path).run(PART, limit_s=60)

    assert suite(tmp_path, value=2.0).run(PART, limit_s=60, again=True)["figures"] == {"texts_per_s": 2.0}


def test_a_part_that_raises_has_failed_with_its_last_line_and_is_run_again(tmp_path):
    failed = suite(tmp_path, body="raise ValueError('seven of nine')").run(PART, limit_s=60)
    mended = suite(tmp_path).run(PART, limit_s=60)

    assert (failed["status"], failed["error"]) == ("failed", "ValueError: seven of nine")
    assert mended["status"] == "ok"


def test_a_part_that_measures_something_wrong_has_failed_and_keeps_its_figures(tmp_path):
    failed = suite(tmp_path, failures=["tokens differ"]).run(PART, limit_s=60)

    assert (failed["status"], failed["error"], failed["figures"]) == (
        "failed",
        "tokens differ",
        {"texts_per_s": 1.0},
    )


def test_a_part_is_ended_at_its_limit(tmp_path):
    hanging = replace(PART, limit_s=1)

    failed = suite(tmp_path, body="time.sleep(600)").run(hanging, limit_s=60)

    assert (failed["status"], failed["error"]) == ("failed", "not done within 1 s")


def test_a_part_without_its_packages_or_without_time_is_not_run(tmp_path):
    absent = suite(tmp_path).run(replace(PART, needs=("no_such_package",)), limit_s=60)
    late = suite(tmp_path).run(PART, limit_s=0)

    assert (absent["status"], absent["error"]) == ("not run", "not installed: no_such_package")
    assert (late["status"], late["error"]) == ("not run", "no time is left")
    assert num_calls(tmp_path) == 0


def test_a_result_that_was_cut_off_is_no_result(tmp_path):
    suite(tmp_path).run(PART, limit_s=60)
    (path,) = tmp_path.rglob("clap.json")
    path.write_text(path.read_text()[:20])

    assert suite(tmp_path, value=2.0).run(PART, limit_s=60)["figures"] == {"texts_per_s": 2.0}


def test_all_parts_end_in_twenty_five_minutes():
    assert sum(part.limit_s for part in PARTS) <= 25 * 60


def measured(**figures):
    by_part = {goal.part: {"part": goal.part, "status": "ok", "seconds": 1.0} for goal in report.GOALS}
    for goal in report.GOALS:
        if goal.figure in figures:
            by_part[goal.part].setdefault("figures", {})[goal.figure] = figures[goal.figure]
    return report.results(ENVIRONMENT, list(by_part.values()))


@pytest.mark.parametrize(
    ("figure", "value", "verdict"),
    [
        ("mfu", 0.5, "met"),
        ("mfu", 0.4999, "missed"),
        ("texts_per_s", 30_000, "met"),
        ("clips_per_s", 59.9, "missed"),
        ("first_token_p50_ms", 60, "met"),
        ("first_token_p50_ms", 60.1, "missed"),
        ("first_token_p50_ms", math.nan, "missed"),
        ("mfu", math.nan, "missed"),
    ],
)
def test_goals_are_met_or_missed(figure, value, verdict):
    found = {
        goal.figure: row for goal, row in zip(report.GOALS, measured(**{figure: value})["goals"], strict=True)
    }

    assert found[figure]["verdict"] == verdict
    assert {row["verdict"] for name, row in found.items() if name != figure} == {"not measured"}


def test_there_is_no_verdict_on_a_cpu_or_on_small_shapes():
    for change in ({"device": "cpu"}, {"size": "tiny"}):
        parts = [{"part": "training", "status": "ok", "seconds": 1.0, "figures": {"mfu": 0.9}}]
        tree = report.results(ENVIRONMENT | change, parts)
        assert tree["goals"][0]["verdict"] == "no goal for this device and size"


def test_the_page_has_goals_states_and_tables():
    table = Table.of("Rates", [{"batch": 8, "per_s": 1234.5}, {"batch": 16, "per_s": None}])
    part = {"part": "training", "status": "failed", "seconds": 3.2, "error": "a | b"}
    part |= Outcome({"mfu": 0.512}, [table], ["no Ray"]).tree()

    page = report.page(report.results(ENVIRONMENT, [part]))

    assert "| MFU of training | >= 50 % | 51.2 % | met |" in page
    assert "| training | failed | 3 | a / b |" in page
    assert "| 8 | 1,234 |" in page or "| 8 | 1,235 |" in page
    assert "| 16 | - |" in page
    assert "- no Ray" in page


def test_the_revision_follows_the_code():
    assert revision() == revision()
    assert len(revision()) == 12


JUNIT = """<testsuites><testsuite><testcase classname="a" name="b"/><testcase classname="a" name="c">
<failure message="assert 1 == 2&#10;more"/></testcase><testcase classname="a" name="d">
<skipped message="no card"/></testcase></testsuite></testsuites>"""


def test_pytests_report_becomes_an_outcome():
    found = outcome(JUNIT)

    assert found.figures == {"passed": 1, "failed": 1, "skipped": 1}
    assert found.failures == ["a::c: assert 1 == 2"]
    assert found.tables[0].rows == [["a::c", "failure", "assert 1 == 2"], ["a::d", "skipped", "no card"]]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_whole_suite_runs_on_a_cpu_and_the_second_call_measures_nothing(tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu",
        "--size",
        "tiny",
        "--device",
        "cpu",
        "--out",
        str(tmp_path),
    ]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    tree = json.loads((tmp_path / "results.json").read_text())
    assert {part["part"]: part["status"] for part in tree["parts"]} == {part.name: "ok" for part in PARTS}
    assert all(row["measured"] > 0 for row in tree["goals"])
    assert all(row["verdict"] == "no goal for this device and size" for row in tree["goals"])
    assert again.returncode == 0
    assert again.stdout.count("(done before)") == len(PARTS)
    figures = {part["part"]: part["figures"] for part in tree["parts"]}
    assert figures["training"]["losses_apart"] < 1e-4
    assert figures["caption"]["equal_captions"] == 1
