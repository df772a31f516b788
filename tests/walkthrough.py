"""Follow the documentation's own commands for three jobs, and check what they leave: ``make walkthrough``.

A fence under ``<!-- walkthrough: JOB -->`` is run as it stands, by bash, from the repository's root or, for a
job that needs files of its own, from a folder that has them. Each command is printed with its seconds; the
first one that fails ends the walk with exit code 1. Quick part: ``tests/architecture/test_documentation.py``.

- bucket: a bucket is captioned, killed by SIGKILL once rows are there, and resumed; folders, labels, windows.
- service: ``serve run`` with a key file, below a prefix.
- own captions: a table to a trained model, then by ``ray job submit`` on a local head.
"""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import s3fs
import soundfile

from tests.s3 import s3_server

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
NUM_CLIPS = 200
"""Number of the demo's clips that lie in the bucket."""
MAX_SECONDS = 600
"""Longest time of one fence."""
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
def running(code: str, folder: Path, trace: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run bash in a session of its own, of which nothing stays; its commands are traced to a file."""
    script = f"exec 9> {trace}\nBASH_XTRACEFD=9 PS4='+ $EPOCHREALTIME '\nset -euo pipefail -x\n{code}"
    process = subprocess.Popen(["bash", "-c", script], cwd=folder, start_new_session=True)
    try:
        yield process
    finally:
        for number in (signal.SIGINT, signal.SIGKILL):
            if not _is_gone(process.pid, seconds=60 if number is signal.SIGKILL else 0):
                os.killpg(process.pid, number)
                _is_gone(process.pid, seconds=60)
        process.wait()


def run(fence: Fence, folder: Path) -> None:
    """Run a block to its end and print its commands with their seconds.

    Raises:
        WalkError: A command failed or takes too long.
    """
    print(f"-- {fence.place}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        trace = Path(scratch) / "trace"
        with running(fence.code, folder, trace) as process:
            try:
                status: int | str = process.wait(MAX_SECONDS)
            except subprocess.TimeoutExpired:
                status = f"no end after {MAX_SECONDS} s"
            end = time.time()
        for seconds, command in _timed(trace.read_text(), end):
            print(f"{seconds:7.1f} s  {command}", flush=True)
    if status != 0:
        raise WalkError(f"{fence.place}: exit {status}")


def _timed(trace: str, end: float) -> Iterator[tuple[float, str]]:
    found = [one for line in trace.splitlines() if (one := _TRACED.match(line))]
    starts = [float(one[1]) for one in found]
    for one, start, following in zip(found, starts, [*starts[1:], end], strict=True):
        if following - start >= 0.05:
            yield following - start, one[2][:150]


def _is_gone(group: int, *, seconds: float) -> bool:
    for _ in range(max(1, round(seconds * 10))):
        with suppress(ChildProcessError):
            os.waitpid(group, os.WNOHANG)
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1 if seconds else 0)
    return False


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
    with running(command, folder, folder / "trace") as process:
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


def walk_service(_: Path) -> None:
    """Serve with keys below a prefix, as the page does, which asks with the key and without."""
    shutil.rmtree(ROOT / "out" / "service", ignore_errors=True)
    for fence in fences_of("service"):
        run(fence, ROOT)
    with_key, without = (
        (ROOT / "out" / "service" / name).read_text() for name in ("with_key", "without_key")
    )
    check('"text":"no"' in with_key.replace(" ", ""), "the first clip holds no dog")
    check("401" in without, "without a key it is a 401")


def walk_own_captions(_: Path) -> None:
    """Own captions to a model on this machine, and by a submitted job."""
    shutil.rmtree(ROOT / "out" / "own", ignore_errors=True)
    for fence in fences_of("own captions"):
        run(fence, ROOT)
    for place in ("own", "own/job"):
        check((ROOT / "out" / place / "model" / "config.json").is_file(), f"out/{place}/model is there")


JOBS: Mapping[str, Callable[[Path], None]] = {
    "bucket": walk_bucket,
    "service": walk_service,
    "own captions": walk_own_captions,
}


def main(wanted: list[str]) -> int:
    """Walk the named jobs, or all of them."""
    if not (ROOT / "out" / "demo" / "model").exists():
        print("there is no out/demo/model: run `make demo` first", file=sys.stderr)
        return 2
    if subprocess.run(["pgrep", "-x", "raylet"], stdout=subprocess.DEVNULL, check=False).returncode == 0:
        print(
            "a Ray cluster runs on this machine, and the walk ends with `ray stop`, which ends all",
            file=sys.stderr,
        )
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
