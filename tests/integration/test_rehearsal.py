"""A rehearsal of a shipped configuration, its language model cut to one layer, from rows to scores."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mats_ray.cli.main import main
from mats_ray.models.directory import read_info
from mats_ray.models.stand_in import mark_stand_in
from tests.world import tiny_model_dir

SMALL = {
    "train.global_batch_size": 4,
    "train.micro_batch_size": 2,
    "model.mapper.num_layers": 1,
    "memory.num_clusters": 10,
    "generation.max_new_tokens": 4,
}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_stage_runs_and_is_measured(tmp_path):
    sets = [flag for key, value in SMALL.items() for flag in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "mats_ray", "rehearse", "--config", "configs/mats_gpt2.yaml"]
    command += ["--scale", "layers=1", "--steps", "2", "--out", str(tmp_path), *sets]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-3000:]
    for stage in ("prepare", "embed", "memory", "train until killed", "train resumed", "train ZeRO 3"):
        assert f"\n| {stage} | " in done.stdout
    for stage in ("caption", "serve", "ask", "evaluate"):
        assert f"\n| {stage} | " in done.stdout
    assert (tmp_path / "rehearsal.md").read_text() == done.stdout
    model = tmp_path / "run" / "model"
    assert read_info(model).stand_ins == ("clap", "llm")
    assert (model / "README.md").read_text().startswith("**Not a model: a rehearsal on stand-ins (clap, llm)")
    summary = json.loads((tmp_path / "run" / "captions" / "_summary.json").read_text())
    assert (summary["files"], summary["ok"]) == (8, 8)


def test_a_rehearsed_model_is_refused_by_service_and_evaluation(tmp_path, capsys):
    model = tiny_model_dir(tmp_path)
    mark_stand_in(tmp_path / "llm", of="x")
    annotations = Path(tmp_path, "clotho_captions_evaluation.csv")
    annotations.write_text("file_name,caption_1,caption_2,caption_3,caption_4,caption_5\na.wav,a,b,c,d,e\n")
    files = ["--annotations", str(annotations), "--audio", str(tmp_path), "--out", str(tmp_path / "out")]
    refused = f"{model} is of a rehearsal on stand-ins (llm), its answers mean nothing"

    assert main(["serve", "--model", str(model)]) == 1
    assert refused in capsys.readouterr().err
    assert main(["evaluate", "--model", str(model), "--benchmark", "clotho", *files]) == 1
    assert refused in capsys.readouterr().err
