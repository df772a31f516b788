"""The demo in miniature: every stage and every real part, none of the skill."""

import contextlib
import io
import json
import os
from pathlib import Path

import pytest

from mats_ray.cli.main import main
from mats_ray.infer.pipeline import MATSPipeline
from tests.toy import tiny_config

pytestmark = pytest.mark.ray

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
def mats(ray_cluster):
    """Call the command in this process, on the session's cluster instead of one of its own."""

    def call(*arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(list(arguments))
        return code, out.getvalue(), err.getvalue()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mats_ray.cli.on_ray.cluster", lambda **_: contextlib.nullcontext())
        yield call


@pytest.fixture(scope="module")
def demo(mats, tmp_path_factory):
    # relative, as in configs/toy.yaml: every process of every stage must take it from the same place
    folder = Path(os.path.relpath(tmp_path_factory.mktemp("demo")))
    config = tiny_config(folder, train={"num_steps": 20}, scaling={"num_workers": 1})
    file = Path(config.output_dir) / "tiny.yaml"
    file.write_text(config.to_yaml())
    return config, file, mats("demo", "--config", str(file))


def test_the_demo_leaves_numbers_report_and_model(demo):
    config, _, (code, output, _) = demo
    out = Path(config.output_dir)
    metrics = json.loads((out / "metrics.json").read_text())

    assert code == 0
    assert metrics["systems"].keys() == SYSTEMS
    scores = [score for of in metrics["systems"].values() for score in of.values()]
    assert all(of.keys() == {"read", "novel"} for of in metrics["systems"].values())
    assert all(0 <= score["caption_all_sounds"] <= 1 for score in scores)
    assert {score["num_clips"] for score in scores} == {4}
    assert metrics["method_minus"].keys() == SYSTEMS - {"text_noise_santa"}
    assert metrics["gap"].keys() == {"read", "novel", "text_alone"}
    assert metrics["wall_seconds"]["total"] > 0
    assert metrics["peak_memory_gb"] > 0.5
    assert (out / "report.html").read_text().count("<audio") == 4
    assert MATSPipeline.from_pretrained(out / "model").model_id.startswith("tiny@")
    assert "text only + noise + Santa (the method)" in output


def test_every_stage_is_announced_and_timed(demo):
    config, _, (_, _, logged) = demo
    seconds = json.loads((Path(config.output_dir) / "metrics.json").read_text())["wall_seconds"]

    announced = [line.split("== ")[1] for line in logged.splitlines() if "== " in line]
    assert announced == [stage for stage in seconds if stage != "total"]


def test_the_terminal_says_how_long_it_takes_and_when_the_report_is_there_and_little_else(demo):
    config, _, (_, output, logged) = demo
    lines = logged.splitlines()

    assert "minutes" in lines[0]
    report = next(number for number, line in enumerate(lines) if "report.html" in line)
    assert report < next(number for number, line in enumerate(lines) if "train without noise" in line)
    assert "Loading weights" not in logged + output
    assert (Path(config.output_dir) / "log.txt").is_file()


def test_a_finished_demo_does_nothing_again(demo, mats):
    config, file, _ = demo
    numbers = Path(config.output_dir) / "metrics.json"
    before = json.loads(numbers.read_text())

    code, _, logged = mats("demo", "--config", str(file))

    after = json.loads(numbers.read_text())
    assert code == 0
    assert after["systems"] == before["systems"]
    assert after["wall_seconds"] == before["wall_seconds"]
    assert logged.count("(done before)") == len(before["wall_seconds"]) - 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--clips", "0"), "num_test_clips"),
        (("--clips", "10001"), "num_test_clips"),
        (("--set", "seed=-1"), "seed"),
        (("--set", "seed=7"), "another folder"),
        (("--set", "output_dir=/proc/demo"), "/proc/demo"),
    ],
)
def test_what_cannot_work_is_one_line_before_anything_is_built(demo, mats, arguments, named):
    _, file, _ = demo

    code, output, logged = mats("demo", "--config", str(file), *arguments)

    assert (code, output) == (2, "")
    assert named in logged
    assert len(logged.splitlines()) == 1


def test_embed_and_memory_print_their_results(demo, mats):
    config, file, _ = demo

    code, output, _ = mats("embed", "--config", str(file))
    assert code == 0
    assert output.splitlines()[-1].endswith(
        f" distinct texts, 0 of them embedded now: {config.embedded_path}"
    )
    code, output, _ = mats("memory", "--config", str(file))
    assert code == 0
    assert output.endswith(f" texts in 4 clusters: {config.memory_path}\n")
