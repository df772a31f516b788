"""An evaluation of answers in a file needs no model and no cluster; a judge's replies can be imported."""

import csv
import json

import pytest

from mats_ray.config.base import validate
from mats_ray.config.evaluate import EvaluateConfig
from mats_ray.errors import ConfigError
from mats_ray.evaluate.log import EvaluationLog, find_logs
from mats_ray.evaluate.run import evaluate, score_all
from mats_ray.evaluate.scoring import resources_of


@pytest.fixture
def folder(tmp_path):
    rows = [["filename", "fold", "target", "category", "esc10", "src_file", "take"]]
    rows += [[f"{n}.wav", 1, 0, "dog" if n % 2 else "rain", True, n, "A"] for n in range(6)]
    for name, table in (
        ("esc50.csv", rows),
        ("answers.csv", [["id", "answer"], *([f"{n}.wav", "dog" if n % 2 else "rain"] for n in range(5))]),
    ):
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows(table)
    return tmp_path


def config(folder, **changes):
    benchmark = {
        "name": "esc50",
        "annotations": str(folder / "esc50.csv"),
        "answers": str(folder / "answers.csv"),
    }
    return validate(
        EvaluateConfig, {"out": str(folder / "out"), "benchmarks": [benchmark]} | changes, where=""
    )


def test_answers_of_a_file_are_logged_without_a_model(folder):
    with pytest.raises(ConfigError, match="embedder 'clap' is the text tower of the evaluated model's CLAP"):
        evaluate(config(folder))

    rows = EvaluationLog(f"{folder}/out/esc50").rows()
    assert [row.status for row in rows] == ["ok"] * 5 + ["missing"]
    assert rows[5].error_code == "no_answer"


def test_a_benchmark_without_answers_needs_a_model(folder):
    benchmark = {"name": "esc50", "annotations": str(folder / "esc50.csv"), "audio": "x"}

    with pytest.raises(ConfigError, match=r"esc50 needs a model directory \(--model\), or a file of answers"):
        evaluate(config(folder, benchmarks=[benchmark]))


def test_saved_answers_are_scored_again_by_another_embedder(folder, monkeypatch):
    from mats_ray.evaluate import scoring
    from tests.unit.evaluate.scoring import BagOfWords

    monkeypatch.setattr(scoring, "load_embedder", lambda ref, clap: BagOfWords())
    evaluate(config(folder))

    found = score_all(find_logs(str(folder / "out")), embedder="bag")

    assert found["esc50"]["measures"]["accuracy"]["value"] == 5 / 6
    assert found["esc50"]["measures"]["accuracy"]["value_with_audio"] == 1
    assert found["esc50"]["details"]["embedder"] == "bag of words"


def test_verdicts_beside_a_log_are_read(folder):
    log = EvaluationLog(f"{folder}/out/esc50")
    with pytest.raises(ConfigError):
        evaluate(config(folder))
    line = json.dumps({"id": "0.wav", "order": "reference_first", "reply": "9 4"})
    (folder / "out/esc50/verdicts.jsonl").write_text(f"{line}\n")

    assert resources_of(log, "clap").verdicts == {"0.wav": 4.0}
