"""Inspect and EvalScope, as they are published, against the service: they record what the model answers.

Their commands are found on ``PATH``, or named by ``MATS_INSPECT`` and ``MATS_EVALSCOPE``: each needs an
environment of its own (``examples/evaluate/README.md``).
"""

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from examples.evaluate import compare, write_dataset
from examples.evaluate.demo_table import question_of
from mats_ray.config.base import validate
from mats_ray.config.evaluate import EvaluateConfig
from mats_ray.data.audio import read_audio
from mats_ray.evaluate.run import evaluate
from mats_ray.infer.pipeline import MATSPipeline
from mats_ray.toy.demo.testset import TestClip
from mats_ray.toy.grammar import question_answers
from mats_ray.toy.world import READ_STREAM, split_of
from tests.service import KEY, ROOT, deployed, sound
from tests.toy import tiny_config

INSPECT, EVALSCOPE = "MATS_INSPECT", "MATS_EVALSCOPE"
QUESTIONS = ("Is there a dog?", "What can be heard?")


@pytest.fixture
def table(tmp_path):
    """Two clips, beside the table and named by it."""
    for number in range(2):
        (tmp_path / f"{number}.wav").write_bytes(sound(number, "wav"))
    return write_table(
        tmp_path / "table.csv", [(f"{n}.wav", QUESTIONS[n], ("yes", "a bell")[n]) for n in range(2)]
    )


def write_table(path, rows, columns=write_dataset.COLUMNS):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_both_data_sets_hold_every_row_of_the_table(table, tmp_path):
    rows = write_dataset.read_table(table)

    inspect, evalscope = write_dataset.write(rows, tmp_path / "out")

    assert [(line["id"], line["question"], line["answer"]) for line in lines(inspect)] == [
        (0, "Is there a dog?", "yes"),
        (1, "What can be heard?", "a bell"),
    ]
    records = lines(evalscope / "questions.jsonl")
    assert [record["messages"][0]["content"][0]["text"] for record in records] == list(QUESTIONS)
    assert records[1]["messages"][0]["content"][1]["input_audio"] == {
        "data": str(tmp_path / "1.wav"),
        "format": "wav",
    }


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("0.wav", "", "yes"), "row 1 has no question"),
        (("0.wav", "Is there a dog?"), "row 1 has no answer"),
        (("9.wav", "Is there a dog?", "yes"), "9.wav, which is not there"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(table, row, words):
    write_table(table, [row])

    with pytest.raises(ValueError, match=words):
        write_dataset.read_table(table)


def test_rows_in_any_order_are_compared_by_path_and_question(table, tmp_path):
    rows = write_dataset.read_table(table)
    answered = [{"path": str(r.path), "prompt": r.question, "answer": "Yes.", "status": "ok"} for r in rows]
    (tmp_path / "part.jsonl").write_text("".join(json.dumps(line) + "\n" for line in reversed(answered)))

    ours = compare.caption_records(tmp_path, rows)
    theirs = ours | {1: compare.Recorded("a dog", right=False)}

    assert ours == {0: ("Yes.", True), 1: ("Yes.", False)}
    assert compare.differences({"ours": ours, "again": ours}, rows) == []
    (different,) = compare.differences({"ours": ours, "theirs": theirs}, rows)
    assert different.startswith("1.wav, 'What can be heard?'")
    assert compare.table_of({"ours": ours, "theirs": theirs}, 2).splitlines()[2].split()[-1] == "1/2"


def test_an_answer_without_a_score_is_not_counted_as_wrong():
    ours = {0: compare.Recorded("yes", right=True), 1: compare.Recorded("no", right=True)}
    unscored = {n: record._replace(right=None) for n, record in ours.items()}

    lines = compare.table_of({"ours": ours, "unscored": unscored}, 2).splitlines()

    assert lines[1].split() == ["ours", "2/2", "2/2", "2/2"]
    assert lines[2].split() == ["unscored", "2/2", "0", "scored", "2/2"]


def test_a_folder_without_a_log_of_inspect_is_named(tmp_path):
    with pytest.raises(ValueError, match="has no log in JSON"):
        compare.inspect_records(tmp_path)


def test_an_evaluation_of_inspect_that_ended_early_is_refused(tmp_path):
    (tmp_path / "log.json").write_text('{"status": "error"}')

    with pytest.raises(ValueError, match="ended with status 'error'"):
        compare.inspect_records(tmp_path)


def test_half_of_the_demos_questions_are_answered_yes(tmp_path):
    scenes = [clip.scene for clip in split_of(tiny_config(tmp_path)).clips(READ_STREAM, count=10, seed=0)]
    clips = [
        TestClip(tmp_path, scene, "", tuple(question_answers(scene, np.random.default_rng(n))))
        for n, scene in enumerate(scenes)
    ]

    questions = [question_of(number, clip) for number, clip in enumerate(clips)]

    assert [qa.answer for qa in questions] == ["yes", "no"] * 5
    assert {qa.kind for qa in questions} == {"presence"}


@pytest.fixture(scope="session")
def inspect():
    return command(INSPECT, "inspect")


@pytest.fixture(scope="session")
def evalscope():
    return command(EVALSCOPE, "evalscope")


def command(variable, name):
    found = os.environ.get(variable) or shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed: no command on PATH, and {variable} names none")
    return found


@pytest.fixture(scope="module")
def questions(model_dir, tmp_path_factory):
    """Ten questions; the expected answers of even rows are what the pipeline says."""
    folder, rows, answers = tmp_path_factory.mktemp("clips"), [], []
    pipeline = MATSPipeline.from_pretrained(model_dir)
    for number in range(5):
        path = folder / f"{number}.wav"
        path.write_bytes(sound(number, "wav"))
        for question in QUESTIONS:
            answers.append(pipeline.ask(read_audio(str(path)), question).text)
            rows.append((path.name, question, "something else" if len(rows) % 2 else answers[-1]))
    assert len(set(answers)) > 5, "equal answers would show nothing"
    table = write_dataset.read_table(write_table(folder / "table.csv", rows))
    return table, answers, write_dataset.write(table, folder / "out")


@pytest.fixture(scope="module")
def url(ray_cluster, model_dir, tmp_path_factory):
    """The service's, as clients of OpenAI's interface are given it."""
    with deployed(tmp_path_factory.mktemp("serve"), model=str(model_dir)) as client:
        yield f"{str(client.base_url).rstrip('/')}/v1"


def run(words, home, **variables):
    """Run a tool at the repository's root, as the README does, without the variables of the tests."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), **variables}
    result = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.ray
def test_inspect_records_the_pipelines_answer_to_every_question(inspect, questions, url, tmp_path):
    rows, answers, (dataset, _) = questions
    task = Path(compare.__file__).with_name("inspect_demo.py").relative_to(ROOT)

    model = ["--model", "openai-api/mats/mats"]
    log = ["--log-format", "json", "--log-dir", str(tmp_path / "log"), "--display", "plain"]
    run(
        [inspect, "eval", str(task), "-T", f"dataset={dataset}", *model, *log],
        tmp_path,
        MATS_BASE_URL=url,
        MATS_API_KEY=KEY,
    )

    records = compare.inspect_records(tmp_path / "log")
    assert [records[number].answer for number in range(len(rows))] == answers
    assert [records[number].right for number in range(len(rows))] == [True, False] * 5


@pytest.mark.slow
@pytest.mark.ray
def test_evalscope_records_the_pipelines_answer_to_every_question(evalscope, questions, url, tmp_path):
    rows, answers, (_, dataset) = questions

    subset = {"local_path": str(dataset), "subset_list": [write_dataset.SUBSET], "metric_list": ["Rouge"]}
    endpoint = ["--eval-type", "openai_api", "--api-url", url, "--api-key", KEY, "--model", "mats"]
    data = ["--datasets", "general_vqa", "--dataset-args", json.dumps({"general_vqa": subset})]
    run(
        [evalscope, "eval", *endpoint, *data, "--no-timestamp", "--work-dir", str(tmp_path / "work")],
        tmp_path,
    )

    records = compare.evalscope_records(tmp_path / "work")
    assert [records[number].answer for number in range(len(rows))] == answers
    assert [records[number].right for number in range(len(rows))] == [True, False] * 5


@pytest.mark.slow
@pytest.mark.ray
def test_mats_evaluate_logs_the_same_answers(questions, ray_cluster, model_dir, tmp_path):
    rows, answers, _ = questions
    named = [(row.path.name, row.question, "yes") for row in rows]
    write_table(tmp_path / "questions.csv", named, columns=("file_name", "QuestionText", "answer"))

    files = {"annotations": str(tmp_path / "questions.csv"), "audio": str(rows[0].path.parent)}
    tree = {"model": str(model_dir), "out": str(tmp_path / "out"), "prompt": "none"}
    tree["benchmarks"] = [{"name": "clotho_aqa", **files}]
    evaluate(validate(EvaluateConfig, tree, where="test"))

    records = compare.evaluate_records(tmp_path / "out" / "clotho_aqa", rows)
    assert [records[number].answer for number in range(len(rows))] == answers
