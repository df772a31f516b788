"""``ray start --head``, ``ray job submit`` as README.md has them: logs, status, stop, a failure's line."""

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from ray.job_submission import JobSubmissionClient

from mats_ray.infer.pipeline import MATSPipeline
from tests.integration.test_caption import write_good
from tests.runs import last_step, other_run, until

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
TRAIN = ("python", "jobs/train.py", "--config", "configs/toy.yaml")
CAPTION = ("python", "jobs/caption.py")


class Head:
    """A head of its own ports, so that another cluster of this machine stays as it is, and its jobs."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.jobs = JobSubmissionClient(self.address)

    def job(self, verb, *words):
        """Run ``ray job VERB``; (exit code, stdout and stderr)."""
        line = [PROGRAMS / "ray", "job", verb, *words]
        environment = os.environ | {"RAY_API_SERVER_ADDRESS": self.address}
        environment.pop("RAY_ADDRESS", None)
        done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def submit(self, name, *entrypoint, wait=True):
        """Submit as the README does, under a name of its own."""
        words = ["--submission-id", name, "--working-dir", ".", *([] if wait else ["--no-wait"])]
        return self.job("submit", *words, "--", *map(str, entrypoint))

    def status(self, name):
        return self.jobs.get_job_status(name).value

    def stop(self, name):
        code, printed = self.job("stop", name)
        assert code == 0, printed
        until(lambda: self.status(name) not in {"PENDING", "RUNNING"}, what="the end of the job")
        return self.status(name)


def free_ports(number):
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [one.getsockname()[1] for one in listening]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """``ray start --head --num-cpus 4``; ``--block`` makes it a process that can be ended, and it alone."""
    names = ("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    log = tmp_path_factory.mktemp("head") / "log"
    # sockets lie below it, and their names have at most 107 characters
    temporary = f"/tmp/mats{ports['port']}"
    line = [PROGRAMS / "ray", "start", "--head", "--num-cpus", "4", "--block", "--temp-dir", temporary]
    line += [f"--{name}={port}" for name, port in ports.items()]
    line += ["--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=100000000"]
    environment = os.environ | {"PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("RAY_ADDRESS", None)
    with log.open("wb") as output:
        process = subprocess.Popen(line, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:

        def answers():
            assert process.poll() is None, log.read_text()
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", ports["dashboard-port"])) == 0

        until(answers, what="an answer of the dashboard")
        yield Head(ports["dashboard-port"])
    finally:
        everything = [process, *psutil.Process(process.pid).children(recursive=True)]
        for one in everything:  # at SIGTERM it would take half a minute
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait(60)
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_good(tmp_path_factory.mktemp("submitted") / "clips", 6)


def last_line(printed, name):
    """Return the last line of a job's own; what Ray prints of the job follows it, in other words."""
    return [line for line in printed.splitlines() if line.startswith(f"{name}: error: ")][-1:]


def test_a_submitted_training_ends_with_its_last_step(head, world, tmp_path):
    config = other_run(world, "submitted", train={"num_steps": 6, "validation": {"data": None}})
    (tmp_path / "run.yaml").write_text(json.dumps(config.replace(toy=None).model_dump(mode="json")))

    code, printed = head.submit("train", *TRAIN, "--config", tmp_path / "run.yaml")
    status, logs = head.job("status", "train"), head.job("logs", "train")

    assert (code, last_step(config)) == (0, 6), printed
    assert "model:" in printed
    assert MATSPipeline.from_pretrained(config.model_dir).model_id.startswith("submitted@")
    assert status[0] == logs[0] == 0
    assert "SUCCEEDED" in status[1].upper()
    own = [line for line in logs[1].splitlines() if "submitted" in line]
    assert own, logs[1]
    assert all(line in printed for line in own)


def test_a_stopped_captioning_leaves_its_folder_to_the_next_which_writes_every_row(
    head, model_dir, clips, tmp_path
):
    """It is stopped while it holds the folder; the next job need not wait for that lock to grow old."""
    paths = ("--model", model_dir, "--audio", clips, "--out", tmp_path / "out")
    endless = ("--set", "generation.max_new_tokens=200", "--set", "generation.profile=paper")

    assert head.submit("caption-stopped", *CAPTION, *paths, *endless, wait=False)[0] == 0
    until(lambda: any((tmp_path / "out").glob("*")), what="the output folder")
    stopped = head.stop("caption-stopped")
    code, printed = head.submit("caption", *CAPTION, *paths)

    assert stopped == "STOPPED", head.job("logs", "caption-stopped")
    assert (code, head.status("caption")) == (0, "SUCCEEDED"), printed
    assert "6 files, 6 rows: 6 ok" in printed
    assert "6 files, 6 rows: 6 ok" in head.job("logs", "caption")[1]
    assert pq.read_table(tmp_path / "out").num_rows == 6


def test_a_stopped_training_keeps_its_steps_and_its_name_is_free(head, world, tmp_path):
    config = other_run(world, "stopped", train={"num_steps": 3_000, "validation": {"data": None}})
    (tmp_path / "run.yaml").write_text(json.dumps(config.replace(toy=None).model_dump(mode="json")))

    assert head.submit("train-stopped", *TRAIN, "--config", tmp_path / "run.yaml", wait=False)[0] == 0
    until(lambda: last_step(config) >= 1 or head.status("train-stopped") == "FAILED", what="the first step")
    status = head.stop("train-stopped")

    assert status == "STOPPED", head.job("logs", "train-stopped")
    assert last_step(config) >= 1


@pytest.mark.parametrize(
    ("name", "entrypoint", "reason"),
    [
        ("mats train", (*TRAIN, "--set", "data.embedded=/nowhere"), "/nowhere"),
        ("mats caption", (*CAPTION, "--model", "/nowhere", "--audio", "/none", "--out", "/none/out"), "/no"),
    ],
)
def test_a_failing_job_says_why_in_one_line(head, name, entrypoint, reason):
    submitted = name.replace(" ", "-")

    code, printed = head.submit(submitted, *entrypoint)

    assert (code, head.status(submitted)) == (1, "FAILED"), printed
    (line,) = last_line(printed, name)
    assert reason in line
    assert "Traceback" not in head.job("logs", submitted)[1]
