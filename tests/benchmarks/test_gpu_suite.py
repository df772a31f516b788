"""The suite for a card: parts are kept and resumed, a failure stays in its part, all of it runs on a CPU."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import clap, report, service, stand_in, training
from benchmarks.gpu.checks import Recorder
from benchmarks.gpu.parts import PARTS, Outcome, Part, Table, with_those_before
from benchmarks.gpu.sizes import TINY
from benchmarks.gpu.suite import GRACE_S, KILL_S, Suite, revision
from mats_ray.errors import ModelError
from mats_ray.models.directory import read_info
from mats_ray.models.llm import load_tokenizer
from mats_ray.serving.foreground import load_serve_config
from mats_ray.serving.local import LocalAnswerer

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


OTHERS = [
    {"revision": "other"},
    {"size": "tiny"},
    {"device_name": "another card"},
    {"versions": {"torch": "10"}},
    {"versions": {"torch": "9", "ray": "2"}},
]


@pytest.mark.parametrize("change", OTHERS)
def test_a_result_of_other_code_packages_or_another_card_does_not_count(tmp_path, change):
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


HALFWAY = """
found = {{"figures": {{"texts_per_s": 7.0}}, "tables": [{{"rows": [[8]]}}], "failures": []}}
pathlib.Path(result).write_text(json.dumps(found))
{end}
"""


@pytest.mark.parametrize(
    ("end", "error"),
    [("time.sleep(600)", "not done within 5 s"), ("raise ValueError('no memory')", "ValueError: no memory")],
)
def test_a_part_that_ends_early_keeps_what_it_has_measured(tmp_path, end, error):
    failed = suite(tmp_path, body=HALFWAY.format(end=end)).run(replace(PART, limit_s=5), limit_s=60)

    assert (failed["status"], failed["error"]) == ("failed", error)
    assert failed["figures"] == {"texts_per_s": 7.0}
    assert [table["rows"] for table in failed["tables"]] == [[[8]]]
    assert suite(tmp_path).results([PART]) == [failed]


def test_an_outcome_is_in_its_file_after_every_row(tmp_path):
    found = Outcome({"texts_per_s": 7.0}, file=tmp_path / "found.new")
    for batch in (8, 16):
        found.add("Rates", {"batch": batch, "per_s": None})
        assert json.loads(found.file.read_text())["tables"][0]["rows"][-1] == [batch, None]
    found.add("Others", {"way": "x"})

    written = json.loads(found.file.read_text())
    assert [table["title"] for table in written["tables"]] == ["Rates", "Others"]
    assert (written["figures"], written["failures"], written["notes"]) == ({"texts_per_s": 7.0}, [], [])
    assert [path.name for path in tmp_path.iterdir()] == ["found.new"]


def test_a_part_without_its_packages_or_without_time_is_not_run(tmp_path):
    absent = suite(tmp_path).run(replace(PART, needs=("no_such_package",)), limit_s=60)
    late = suite(tmp_path).run(PART, limit_s=GRACE_S + KILL_S)

    assert (absent["status"], absent["error"]) == ("not run", "not installed: no_such_package")
    assert (late["status"], late["error"]) == ("not run", "no time is left")
    assert num_calls(tmp_path) == 0


def test_a_result_that_was_cut_off_is_no_result(tmp_path):
    suite(tmp_path).run(PART, limit_s=60)
    (path,) = tmp_path.rglob("clap.json")
    path.write_text(path.read_text()[:20])

    assert suite(tmp_path, value=2.0).run(PART, limit_s=60)["figures"] == {"texts_per_s": 2.0}


def test_all_parts_end_in_twenty_five_minutes():
    assert sum(part.limit_s for part in PARTS) + GRACE_S + KILL_S <= 25 * 60


def test_what_parts_load_is_written_before_them():
    assert with_those_before(["service", "clap"]) == ["clap", "stand_in", "service"]
    assert with_those_before(["tests"]) == ["tests"]


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


@pytest.mark.parametrize(
    ("part", "verdict"),
    [
        (
            {"status": "not run", "error": "not installed: pyarrow"},
            "not measured: the part caption was not run, not installed: pyarrow",
        ),
        ({"status": "not run"}, "not measured: the part caption was not run"),
        ({"status": "failed", "error": "no memory"}, "not measured: the part caption failed, no memory"),
    ],
)
def test_a_goal_that_cannot_be_judged_says_why_in_one_line(part, verdict):
    tree = report.results(ENVIRONMENT, [{"part": "caption", "seconds": 0.0} | part])

    (line,) = [line for line in report.goal_lines(tree) if line.startswith("clips/s captioned")]
    assert line == f"clips/s captioned greedily in all: - (wanted >= 60): {verdict}"
    assert f"| clips/s captioned greedily in all | >= 60 | - | {verdict} |" in report.page(tree)


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


def a_report(name, outcome, *, when="call", longrepr=None):
    return pytest.TestReport(name, ("f.py", 1, name), {}, outcome, longrepr, when)


def test_tests_are_counted_when_they_end():
    found = Outcome()
    recorder = Recorder(found)
    for when in ("setup", "call", "teardown"):
        recorder.pytest_runtest_logreport(a_report("a::b", "passed", when=when))
    recorder.pytest_runtest_logreport(a_report("a::c", "failed", longrepr="assert 1 == 2\nmore"))
    skipped = ("f.py", 3, "Skipped: no card")
    recorder.pytest_runtest_logreport(a_report("a::d", "skipped", when="setup", longrepr=skipped))
    recorder.pytest_runtest_logreport(a_report("a::e", "failed", when="setup", longrepr="no memory"))

    assert found.figures == {"passed": 1, "failed": 2, "skipped": 1}
    assert found.failures == ["a::c: assert 1 == 2", "a::e: no memory"]
    assert found.tables[0].rows == [
        ["a::c", "failed", "assert 1 == 2"],
        ["a::d", "skipped", "no card"],
        ["a::e", "failed", "no memory"],
    ]


def test_a_model_that_does_not_fit_is_said(monkeypatch):
    monkeypatch.setattr(training.gpu_train, "training", lambda *_: iter(()))
    found = Outcome()

    training.run(TINY, "cpu", found)

    assert found.failures == ["does not fit: a micro-batch of 2, the smallest, is out of memory"]


def test_the_peer_is_measured_at_the_largest_micro_batch_that_it_has_memory_for(monkeypatch):
    def scarce(size, rows, device, dtype):
        if rows > most:
            raise torch.OutOfMemoryError
        return {"micro_batch": rows}

    monkeypatch.setattr(training, "trainer", scarce)

    most = 16
    assert training.largest_trainer(TINY, [8, 16, 32], "cpu", torch.float32) == {"micro_batch": 16}
    most = 0
    assert training.largest_trainer(TINY, [8, 16, 32], "cpu", torch.float32) is None


def test_captions_a_second_are_those_in_float32(monkeypatch):
    rates = {"float32": (10.0, 20.0), "bfloat16": (90.0, 80.0)}
    rows = [
        {"precision": name, "batch": 8, unit: rate}
        for unit in ("texts_per_s", "windows_per_s")
        for name, found in rates.items()
        for rate in found
    ]
    for name in ("texts", "windows"):
        kept = [row for row in rows if f"{name}_per_s" in row]
        monkeypatch.setattr(clap, name, lambda *_, kept=kept: iter(kept))
    found = Outcome()

    clap.run(TINY, "cpu", found)

    assert (found.figures["texts_per_s"], found.figures["bfloat16_texts_per_s"]) == (20.0, 90.0)
    assert (found.figures["windows_per_s"], found.figures["bfloat16_windows_per_s"]) == (20.0, 90.0)


def test_a_request_without_a_first_token_is_a_failure_and_no_figure():
    whole = service.Load(sent=2, first=[0.01, 0.03], whole=[0.1, 0.1], seconds=1.0)
    silent = service.Load(sent=3, first=[0.01], whole=[0.1, 0.1], refused=1, seconds=1.0)
    none = service.Load(seconds=1.0)
    found, failed, empty = Outcome(), Outcome(), Outcome()

    service.record(found, service.TOGETHER, whole, 2)
    service.record(failed, service.TOGETHER, silent, 2)
    service.record(empty, service.TOGETHER, none, 2)

    assert found.failures == []
    assert found.figures["first_token_p50_ms"] == pytest.approx(20)
    assert failed.failures == [f"{service.TOGETHER}: 1 of 3 requests had a first token, 1 were refused"]
    assert failed.figures == {"requests_per_s": 2.0}
    assert empty.failures
    assert "first_token_p50_ms" not in empty.figures


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The model directory that the parts share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MATS_GPU_WORK", str(tmp_path_factory.mktemp("work")))
        yield stand_in.model_directory(TINY, "cpu")


def test_every_id_but_the_special_ones_is_text(model):
    tokenizer = load_tokenizer(read_info(model).model.llm.path)

    assert len(tokenizer) == TINY.llm["vocab"]
    texts = [tokenizer.decode([number], skip_special_tokens=True) for number in range(len(tokenizer))]
    assert [number for number, text in enumerate(texts) if not text] == [0, 1]
    assert tokenizer.decode([300, 499]).split() == ["w300", "w499"]


def test_the_service_takes_the_stand_in_in_a_rehearsal_alone(model):
    assert read_info(model).stand_ins == ("clap", "llm")
    words = [f"serve.{word}" for word in service.ways(TINY, "cpu", has_ray=False)[service.TOGETHER][1]]

    config = load_serve_config([], words, model=str(model))

    LocalAnswerer(config)
    with pytest.raises(ModelError, match="rehearsal on stand-ins"):
        LocalAnswerer(config.model_copy(update={"rehearsal": False}))


def test_a_stand_in_is_written_once_for_each_state_of_the_code(model, monkeypatch):
    monkeypatch.setenv("MATS_GPU_WORK", str(model.parents[1]))
    config = model / "config.json"
    written = config.stat().st_mtime_ns

    stand_in.model_directory(TINY, "cpu")
    assert config.stat().st_mtime_ns == written

    monkeypatch.setattr(stand_in, "revision", lambda: "other")
    stand_in.model_directory(TINY, "cpu")
    assert config.stat().st_mtime_ns > written


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
    assert figures["caption"]["different_captions"] == TINY.peer_clips
