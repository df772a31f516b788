"""Follow the documentation's own commands for three jobs, and check what they leave: ``make walkthrough``.

A fence under ``<!-- walkthrough: JOB -->`` is run as it stands, by bash or Python, from the repository's root
or, for a job that needs files of its own, from a folder that has them. Each command is printed with its
seconds; the first one that fails ends the walk with exit code 1. The quick part is
``tests/architecture/test_documentation.py``.

- bucket: a bucket is captioned, killed by SIGKILL once rows are there, and resumed; folders, labels, windows;
  the rows are read with pandas, DuckDB and Ray.
- start: ``make serve``, a question by curl and one by OpenAI's client, and the model in Python.
- service: ``serve run`` with a key file, below a prefix.
- own captions: a table to a trained model, then by ``ray job submit`` on a local head.
"""

import logging
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx2
import numpy as np
import psutil
import pyarrow.parquet as pq
import s3fs
import soundfile

from tests.s3 import s3_server

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
NOT_WALKED: Mapping[tuple[str, str], str] = {
    (
        "README.md",
        "make demo",
    ): "made before the walk where it is missing; `make serve` is started by the job start",
    (
        "README.md",
        "export RAY_AUTH_MODE",
    ): "trains the demo again; the job own captions submits in the same way",
    (
        "docs/batch.md",
        "mats caption --model out/demo/model --audio clips/",
    ): "needs a file with an error; tests/integration/test_caption.py does it",
    ("docs/batch.md", "mats plan --config"): "loads nothing; tests/unit/cli/test_plan.py does it",
    ("docs/data.md", "mats prepare --config run.yaml"): "needs published data sets",
    ("docs/training.md", "mats rehearse"): "takes half an hour; tests/integration/test_rehearsal.py does it",
    ("docs/deployment.md", "docker build"): "needs a container engine; tests/dockerfile.py runs its steps",
    ("docs/deployment.md", "unshare --mount"): "needs root, minutes and gigabytes",
    (
        "docs/deployment.md",
        "docker compose up",
    ): "needs a container engine; tests/unit/test_compose.py checks it",
    ("docs/deployment.md", "docker compose exec"): "needs a container engine",
    (
        "docs/deployment.md",
        "mats deploy render",
    ): "needs Kubernetes; tests/unit/deploy checks what is written",
    ("docs/deployment.md", "mats plan"): "loads nothing; tests/unit/cli/test_plan.py does it",
    ("docs/evaluation.md", "mats evaluate --list"): "needs published data sets",
    (
        "docs/reproduce.md",
        "git clone YOUR-COPY",
    ): "the copy is the reader's; installing is what the walk stands on",
    ("docs/reproduce.md", "mats convert clap"): "needs a published checkpoint; tests/golden converts one",
    ("docs/reproduce.md", "mats prepare --config"): "needs published data sets",
    ("docs/reproduce.md", "mats plan  --config"): "needs GPUs for hours; tests/unit/cli/test_plan.py plans",
    ("docs/reproduce.md", "mats plan --config"): "needs published audio and GPUs",
    ("docs/scale.md", "python -m benchmarks"): "takes twenty minutes of an idle machine",
    (
        "docs/start.md",
        "make demo",
    ): "made before the walk where it is missing; the job start starts `make serve`",
    (
        "docs/start.md",
        "source .venv",
    ): "the jobs start and bucket run these commands of README and docs/batch.md",
    ("docs/start.md", "export RAY_AUTH_MODE"): "trains on GPUs; the job own captions submits in the same way",
    (
        "docs/start.md",
        "make dist",
    ): "needs a package index; tests/architecture/test_wheel.py installs and runs it",
    (
        "docs/training.md",
        "mats prepare --config configs/mats_llama_7b.yaml",
    ): "needs published data sets and GPUs",
    ("docs/training.md", "mats embed --config run.yaml --set"): "a configuration of the reader's",
    ("docs/training.md", "mats embed --config run.yaml --est"): "a configuration of the reader's",
    ("docs/training.md", "mats train --config run.yaml"): "a configuration of the reader's",
    ("docs/training.md", "mats memory --config run.yaml"): "a configuration of the reader's",
    ("docs/training.md", "pip install gguf"): "needs a package index, and half an hour",
}
"""Page and beginning of the fences of commands that no job runs, each with its reason."""
NUM_CLIPS = 200
"""Number of the demo's clips that lie in the bucket."""
MAX_SECONDS = 600
"""Longest time of one fence."""
DOG = "0005.wav"
"""Clip of the demo in which a dog barks; in its first clip a phone rings, and no dog barks."""
PORTS = {8000: "the service", 6379: "Ray's head", 8265: "Ray's jobs"}
_MARK = "MATS_WALKTHROUGH"
_FENCE = re.compile(
    r"(?:<!-- walkthrough: (?P<job>[\w ]+) -->\n+)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S
)
_TRACED = re.compile(r"^\++ (\d+\.\d+) (.*)$")


class Fence(NamedTuple):
    """A block of code in a page."""

    page: Path
    line: int
    job: str | None
    language: str
    code: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


class WalkError(Exception):
    """A command failed, or left something else than the page promises."""


def fences(page: Path) -> list[Fence]:
    """Return the fenced blocks of a page, in its order."""
    text = page.read_text("utf-8")
    return [
        Fence(page, text.count("\n", 0, one.start("code")), one["job"], one["language"], one["code"])
        for one in _FENCE.finditer(text)
    ]


def fences_of(job: str) -> list[Fence]:
    """Return the blocks of one job, page by page."""
    return [fence for page in PAGES for fence in fences(page) if fence.job == job]


@contextmanager
def running(code: str, folder: Path, trace: Path, stdout: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run bash in a session of its own, its commands traced to a file; in the end nothing of it is left."""
    script = f"exec 9> {trace}\nBASH_XTRACEFD=9 PS4='+ $EPOCHREALTIME '\nset -euo pipefail -x\n{code}"
    mark = uuid.uuid4().hex  # by it daemons, such as those of `ray start`, are known as ours
    with stdout.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=folder,
            stdout=output,
            env=os.environ | {_MARK: mark},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        _, alive = psutil.wait_procs(_marked(mark), timeout=0 if process.poll() else 60)
        while alive:
            for one in alive:
                with suppress(psutil.Error):
                    one.kill()
            psutil.wait_procs(alive, timeout=60)
            alive = _marked(mark)
        process.wait()


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def run(fence: Fence, folder: Path) -> str:
    """Run a block to its end, print its commands with their seconds, and print and return its output.

    Raises:
        WalkError: A command failed or takes too long.
    """
    print(f"-- {fence.place}", flush=True)
    code = fence.code if fence.language == "bash" else f"python -c {shlex.quote(fence.code)}"
    with tempfile.TemporaryDirectory() as scratch:
        trace, stdout = Path(scratch) / "trace", Path(scratch) / "stdout"
        with running(code, folder, trace, stdout) as process:
            try:
                status: int | str = process.wait(MAX_SECONDS)
            except subprocess.TimeoutExpired:
                status = f"no end after {MAX_SECONDS} s"
            end = time.time()
        commands = list(_timed(trace.read_text(), end))
        printed = stdout.read_text("utf-8", "replace")
    for seconds, command in commands:
        if seconds >= 0.05:
            print(f"{seconds:7.1f} s  {command}", flush=True)
    print("".join(f"           {line}\n" for line in printed.splitlines()), end="", flush=True)
    if status != 0:
        last = f" at `{commands[-1][1]}`" if commands else ""
        raise WalkError(f"{fence.place}: exit {status}{last}")
    return printed


def _timed(trace: str, end: float) -> Iterator[tuple[float, str]]:
    found = [one for line in trace.splitlines() if (one := _TRACED.match(line))]
    starts = [float(one[1]) for one in found]
    for one, start, following in zip(found, starts, [*starts[1:], end], strict=True):
        yield following - start, one[2][:150]


def check(is_so: object, promise: str) -> None:
    """Print a promise that is kept.

    Raises:
        WalkError: It is not.
    """
    if not is_so:
        raise WalkError(f"not true: {promise}")
    print(f"       ok  {promise}", flush=True)


def walk_bucket(folder: Path) -> None:
    """Caption a bucket, kill the job, resume it; then the page's other commands."""
    (folder / "out").mkdir()
    (folder / "out" / "demo").symlink_to(ROOT / "out" / "demo")
    clips = sorted((ROOT / "out" / "demo" / "audio").glob("*.wav"))[:NUM_CLIPS]
    samples, rate = soundfile.read(clips[0])
    (folder / "radio").mkdir()
    soundfile.write(folder / "radio" / "long.wav", np.tile(samples, 30), rate)
    (folder / "labels.txt").write_text("a dog\nrain\na siren\n")
    lines = [f"{clip},Is there a dog?,{number}" for number, clip in enumerate(clips[:3])]
    (folder / "files.csv").write_text("\n".join(["path,question,speaker", *lines]) + "\n")
    with s3_server("bucket") as files:
        for clip in clips:
            files.put(str(clip), f"bucket/clips/{clip.name}")
        first, *others = fences_of("bucket")
        command = next(line for line in first.code.splitlines() if "s3://" in line)
        _kill_once_rows_are_there(command, folder, files)
        for fence in (first, *others):
            run(fence, folder)
        rows = pq.read_table("bucket/answers", filesystem=files).to_pylist()
    check(len({row["path"] for row in rows}) == len(rows) == NUM_CLIPS, f"{NUM_CLIPS} rows, each there once")
    check({row["answer"] for row in rows} == {"yes", "no"}, "every answer is yes or no")
    for name in ("captions", "labels", "radio"):
        check(any((folder / "out" / name).iterdir()), f"out/{name} holds rows")


def _kill_once_rows_are_there(command: str, folder: Path, files: s3fs.S3FileSystem) -> None:
    print(f"-- killed once rows are there: {command}", flush=True)
    with running(command, folder, folder / "trace", folder / "stdout") as process:
        for _ in range(MAX_SECONDS * 4):
            if any(name.endswith(".parquet") for name in files.find("bucket/answers")):
                break
            if process.poll() is not None:
                raise WalkError(f"exit {process.returncode} before it could be killed: {command}")
            time.sleep(0.25)
        os.killpg(process.pid, signal.SIGKILL)
    num_rows = sum(
        len(pq.read_table(name, filesystem=files))
        for name in files.find("bucket/answers")
        if name.endswith(".parquet")
    )
    check(num_rows < NUM_CLIPS, f"killed when {num_rows} of {NUM_CLIPS} rows were there")


def walk_start(folder: Path) -> None:
    """Start the service as the README does, and ask it and the model in the ways of the pages."""
    (folder / "out").symlink_to(ROOT / "out")
    (folder / "dog.wav").symlink_to(ROOT / "out" / "demo" / "audio" / DOG)
    started = time.monotonic()
    with running("make serve", ROOT, folder / "trace", folder / "stdout") as process:
        while not _is_ready():
            if process.poll() is not None or time.monotonic() > started + MAX_SECONDS:
                raise WalkError("`make serve` does not answer")
            time.sleep(1)
        print(f"{time.monotonic() - started:7.1f} s  make serve, until it is ready", flush=True)
        curl, python, openai = (run(fence, folder) for fence in fences_of("start"))
        started = time.monotonic()
    print(f"{time.monotonic() - started:7.1f} s  Ctrl-C", flush=True)
    check("phone" in curl and "phone" in python, "by HTTP and in Python a phone is heard in the first clip")
    check(openai.strip() == "yes", "through OpenAI's client a dog is heard where one barks")


def _is_ready() -> bool:
    with suppress(httpx2.TransportError):
        return httpx2.get("http://127.0.0.1:8000/readyz").is_success
    return False


def walk_service(_: Path) -> None:
    """Serve with keys below a prefix, as the page does, which asks with the key and without."""
    shutil.rmtree(ROOT / "out" / "service", ignore_errors=True)
    printed = "".join(run(fence, ROOT) for fence in fences_of("service"))
    check('"text":"no"' in printed.replace(" ", ""), "the first clip holds no dog")
    check(re.search(r"401\s*$", printed), "without a key it is a 401")


def walk_own_captions(_: Path) -> None:
    """Own captions to a model on this machine, and by a submitted job."""
    shutil.rmtree(ROOT / "out" / "own", ignore_errors=True)
    local, submitted = (run(fence, ROOT) for fence in fences_of("own captions"))
    check(local.strip().splitlines()[-1] in ("yes", "no"), "the model trained here answers yes or no")
    check("phone" in submitted.strip().splitlines()[-1], "the submitted job's model hears its phone")
    for place in ("own", "own/job"):
        check((ROOT / "out" / place / "model" / "config.json").is_file(), f"out/{place}/model is there")


JOBS: Mapping[str, Callable[[Path], None]] = {
    "bucket": walk_bucket,
    "start": walk_start,
    "service": walk_service,
    "own captions": walk_own_captions,
}


def main(wanted: list[str]) -> int:
    """Walk the named jobs, or all of them."""
    if not (ROOT / "out" / "demo" / "model").exists():
        print("there is no out/demo/model: run `make demo` first", file=sys.stderr)
        return 2
    if any(one.info["name"] == "raylet" for one in psutil.process_iter(["name"])):
        print("a Ray cluster runs on this machine, and `ray stop` of the walk would end it", file=sys.stderr)
        return 2
    for port, use in PORTS.items():
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                print(f"port {port}, which {use} needs, is in use", file=sys.stderr)
                return 2
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # moto's line per request
    for job in wanted or list(JOBS):
        started = time.monotonic()
        print(f"== {job}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                JOBS[job](Path(folder))
            except WalkError as error:
                print(f"walkthrough: {job}: {error}", file=sys.stderr)
                return 1
        print(f"== {job}: {time.monotonic() - started:.0f} s\n", flush=True)
    print("all green")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
