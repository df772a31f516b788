"""The demo and a submitted job, in miniature: every stage and every real part, none of the skill."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mats_ray.infer.pipeline import MATSPipeline
from mats_ray.toy.demo import run_demo
from tests.toy import tiny_config

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
SYSTEMS = {
    "text_noise_santa",
    "text_noise",
    "text_santa",
    "text_only",
    "audio_supervised",
    "text_embedding",
    "floor",
}


@pytest.fixture(scope="module")
def demo(ray_cluster, tmp_path_factory):
    config = tiny_config(tmp_path_factory.mktemp("demo"))
    said: list[str] = []
    return config, run_demo(config, say=said.append), said


def test_the_demo_leaves_numbers_report_and_model(demo):
    config, metrics, _ = demo
    out = Path(config.output_dir)

    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert metrics["systems"].keys() == SYSTEMS
    assert all(
        0 <= one["caption_all_sounds"] <= 1 and one["num_clips"] == 4 for one in metrics["systems"].values()
    )
    assert metrics["modality_gap"].keys() == {"before", "after_santa"}
    assert metrics["wall_seconds"]["total"] > 0
    assert metrics["peak_memory_gb"] > 0.5
    report = (out / "report.html").read_text()
    assert report.count("<audio") == 4
    assert MATSPipeline.from_pretrained(out / "model").model_id.startswith("tiny@")


def test_every_stage_is_announced_and_timed(demo):
    _, metrics, said = demo

    assert [line.removeprefix("== ") for line in said] == [s for s in metrics["wall_seconds"] if s != "total"]


def test_a_submitted_job_trains(demo, ray_cluster, tmp_path):
    config, _, _ = demo
    file = tmp_path / "tiny.yaml"
    tree = config.model_dump(mode="json", exclude_unset=True)
    tree |= {"name": "job", "output_dir": str(tmp_path / "out")}
    file.write_text(yaml.safe_dump(tree))
    command = [
        "ray",
        "job",
        "submit",
        "--address",
        f"http://{ray_cluster['webui_url']}",
        "--working-dir",
        str(ROOT),
    ]
    script = ["--", sys.executable, "jobs/train.py", "--config", str(file), "--set", "train.num_steps=4"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    done = subprocess.run([*command, *script], capture_output=True, text=True, env=environment, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "model:" in done.stdout
    assert MATSPipeline.from_pretrained(tmp_path / "out" / "model").model_id.startswith("job@")
