"""An evaluation on Ray: a row per sample, answers of the batch job, one pass for variants."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from mats_ray.caption.on_ray import caption
from mats_ray.config.base import validate
from mats_ray.config.caption import CaptionConfig
from mats_ray.config.evaluate import EvaluateConfig
from mats_ray.errors import ConfigError, DataError
from mats_ray.evaluate.compare import compare
from mats_ray.evaluate.log import EvaluationLog
from mats_ray.evaluate.run import evaluate
from mats_ray.tasks import INSTRUCTIONS, Task
from tests import kills
from tests.s3 import s3_server

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
CLASSES = ("dog", "rain", "siren")
NUM_CLIPS = 12
PROMPT = f"[single event] {INSTRUCTIONS[Task.CLASSIFICATION]}"


@pytest.fixture(scope="module")
def esc(tmp_path_factory):
    """Twelve clips, one of them damaged, and rows of thirteen: the audio of the last is missing."""
    folder = tmp_path_factory.mktemp("esc")
    draw, rows = np.random.default_rng(0), []
    for n in range(NUM_CLIPS + 1):
        name, label = f"1-{n:03d}-A-{n % 3}", CLASSES[n % 3]
        rows.append([f"{name}.wav", 1, n % 3, label, True, n, "A"])
        if n < NUM_CLIPS:
            (folder / "audio" / label).mkdir(parents=True, exist_ok=True)
            samples = 0.3 * np.sin(np.arange(16_000) * (0.02 + n / 9)) + 0.1 * draw.standard_normal(16_000)
            soundfile.write(folder / "audio" / label / f"{name}.flac", samples, 16_000)
    (folder / "audio" / "dog" / "1-000-A-0.flac").write_bytes(b"no audio" * 40)
    with (folder / "esc50.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["filename", "fold", "target", "category", "esc10", "src_file", "take"], *rows])
    return folder


def config(esc, model, out, **changes):
    benchmark = {"name": "esc50", "annotations": str(esc / "esc50.csv"), "audio": str(esc / "audio")}
    tree = {"model": str(model), "out": str(out), "benchmarks": [benchmark], "caption": {"batch_size": 4}}
    return validate(EvaluateConfig, tree | changes, where="test")


@pytest.fixture(scope="module")
def evaluated(ray_cluster, model_dir, esc, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated")
    (found,) = evaluate(config(esc, model_dir, out)).values()
    return out, found.results["esc50"]


def test_every_sample_has_a_row_and_what_became_of_it(evaluated):
    out, scores = evaluated

    rows = EvaluationLog(f"{out}/esc50").rows()

    assert [row.status for row in rows] == ["error", *["ok"] * (NUM_CLIPS - 1), "missing"]
    assert rows[0].error_code == "not_audio"
    assert {row.prompt for row in rows} == {PROMPT}
    assert scores["samples"] == {
        "published": 2000,
        "annotated": 13,
        "left_out": {},
        "first_rejected": "",
        "answered": 11,
        "empty": 0,
        "errors": {"not_audio": 1},
        "missing_audio": 1,
        "ambiguous_audio": 0,
    }
    assert scores["measures"]["accuracy"]["n"] == 13
    assert scores["details"]["labels"] == "3"


def test_answers_are_the_batch_jobs_own(evaluated, esc, model_dir, tmp_path):
    out, _ = evaluated

    caption(
        CaptionConfig(max_error_fraction=1.0),
        audio=str(esc / "audio"),
        out=str(tmp_path),
        model=str(model_dir),
        questions=[PROMPT],
    )

    own = {row["path"]: row["answer"] for row in pq.read_table(tmp_path).to_pylist()}
    rows = [row for row in EvaluationLog(f"{out}/esc50").rows() if row.status == "ok"]
    assert {row.audio: row.answer for row in rows} == {path: own[path] for path in own if own[path]}


def test_a_finished_evaluation_computes_nothing_and_gives_the_same_files(evaluated, esc, model_dir):
    out, scores = evaluated
    before = (out / "esc50/samples.parquet").read_bytes()

    def no_cluster():
        raise AssertionError("started")

    (again,) = evaluate(config(esc, model_dir, out), cluster=no_cluster).values()

    assert again.results["esc50"] == scores
    assert (out / "esc50/samples.parquet").read_bytes() == before


KILLED = """
import sys, time
import ray
from mats_ray.caption import on_ray, output
from mats_ray.config.base import validate
from mats_ray.config.evaluate import EvaluateConfig
from mats_ray.evaluate.run import evaluate
output.FIRST_FLUSH_SECONDS = 0
update = on_ray.Progress.update
on_ray.Progress.update = lambda *args, **more: (update(*args, **more), time.sleep(0.3))
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
evaluate(EvaluateConfig.model_validate_json(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_and_ends_like_an_unbroken_one(
    evaluated, ray_cluster, esc, model_dir, tmp_path
):
    whole, scores = evaluated
    settings = config(esc, model_dir, tmp_path, caption={"batch_size": 1})
    command = [sys.executable, "-c", KILLED, ray_cluster["gcs_address"], settings.model_dump_json()]
    answers = tmp_path / "esc50" / "answers"
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}) as killed:
        deadline = time.monotonic() + 300
        while kills.num_rows(str(answers)) < 3 and killed.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        killed.kill()
    assert killed.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert not (tmp_path / "esc50/scores.json").exists()

    (again,) = evaluate(settings).values()

    assert EvaluationLog(f"{tmp_path}/esc50").rows() == EvaluationLog(f"{whole}/esc50").rows()
    assert again.results["esc50"] | {"created": ""} == scores | {"created": ""}


def test_another_models_folder_is_refused_before_anything_is_touched(evaluated, esc, model_dir, tmp_path):
    out, _ = evaluated
    other = tmp_path / "other"
    other.mkdir()
    for file in model_dir.iterdir():
        (other / file.name).symlink_to(file)
    tree = json.loads((model_dir / "config.json").read_text())
    tree["name"], tree["model"]["clap"]["ref"] = "other", str(model_dir.parent / "clap")
    tree["model"]["llm"]["path"] = str(model_dir.parent / "llm")
    (other / "config.json").unlink()
    (other / "config.json").write_text(json.dumps(tree))

    with pytest.raises(ConfigError, match=r"holds an evaluation with model 'tiny@.*', this one has 'other@"):
        evaluate(config(esc, other, out))


def test_prompts_without_the_token_are_another_evaluation(evaluated, esc, model_dir):
    out, _ = evaluated

    with pytest.raises(ConfigError, match="holds an evaluation with prompt"):
        evaluate(config(esc, model_dir, out, prompt="none"))


def test_audio_of_another_set_is_refused(esc, model_dir, tmp_path):
    soundfile.write(tmp_path / "x.wav", np.zeros(1600), 16_000)
    benchmark = {"name": "esc50", "annotations": str(esc / "esc50.csv"), "audio": str(tmp_path)}

    with pytest.raises(DataError, match=r"has audio of none of the 13 samples"):
        evaluate(config(esc, model_dir, tmp_path / "out", benchmarks=[benchmark]))


def test_too_many_broken_files_end_it_with_all_rows_written(ray_cluster, esc, model_dir, tmp_path):
    strict = {"batch_size": 4, "max_error_fraction": 0.0}

    with pytest.raises(DataError, match=r"1 of 12 rows are errors \(1 not_audio\)"):
        evaluate(config(esc, model_dir, tmp_path, caption=strict))


def test_variants_cost_one_pass_over_the_audio(ray_cluster, evaluated, esc, model_dir, tmp_path, monkeypatch):
    from mats_ray.caption import on_ray

    whole, _ = evaluated
    passes, encode = [], on_ray.write_missing_embeddings

    def counted(job, store):
        passes.append(len(list(job.files_to_encode())))
        encode(job, store)

    monkeypatch.setattr(on_ray, "write_missing_embeddings", counted)
    variants = [
        {"name": "full"},
        {"name": "no_santa", "santa": False},
    ]

    results = evaluate(config(esc, model_dir, tmp_path, variants=variants))

    assert list(results) == [f"{tmp_path}/{name}" for name in ("full", "no_santa")]
    assert passes == [3, 0]  # batches of four files, then none
    logs = {name: EvaluationLog(f"{tmp_path}/{name}/esc50") for name in ("full", "no_santa")}
    assert logs["full"].rows() == EvaluationLog(f"{whole}/esc50").rows()
    assert logs["no_santa"].rows() != logs["full"].rows()
    assert [log.header().model["santa"] for log in logs.values()] == [
        "L=4, tau=0.1, lambda=0.3, as paper",
        "off",
    ]
    differences = compare(f"{tmp_path}/no_santa", f"{tmp_path}/full", embedder="clap")
    assert differences == results[f"{tmp_path}/no_santa"].differences
    assert results[f"{tmp_path}/full"].differences == []
    assert [one.measure for one in differences] == ["accuracy", "macro_f1"]


def test_buckets_are_evaluated_as_folders_are(ray_cluster, evaluated, esc, model_dir):
    whole, scores = evaluated
    with s3_server("evaluation") as files:
        for path in sorted((esc / "audio").rglob("*.flac")):
            files.put_file(str(path), f"evaluation/esc/audio/{path.name}")
        files.put_file(str(esc / "esc50.csv"), "evaluation/esc/esc50.csv")
        where = {"annotations": "s3://evaluation/esc/esc50.csv", "audio": "s3://evaluation/esc/audio"}
        benchmark = {"name": "esc50", **where}

        (found,) = evaluate(config(esc, model_dir, "s3://evaluation/out #1", benchmarks=[benchmark])).values()
        log = EvaluationLog("s3://evaluation/out #1/esc50")
        answers = [row.answer for row in log.rows()]

    assert found.results["esc50"]["measures"] == scores["measures"]
    assert answers == [row.answer for row in EvaluationLog(f"{whole}/esc50").rows()]
