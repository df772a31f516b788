"""Measure how long processes and jobs take to start, before and after, in turn, in one run.

    python -m benchmarks.bench_start processes caption serve zero --baseline ../before --model out/demo/model

``processes``: modules and CPU seconds of each kind of process until it can work. ``caption``: from the
command to the first rows in the output. ``serve``: from the command to the first answer. ``zero``: a first
answer when both models are scaled to zero. CPU seconds are those of all processes of the job up to then: on
a busy machine they say more than the clock. Both sides are checkouts, run by the same interpreter.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent))

from serve_load import Reply, chat, send, serving

KINDS = {
    "command line": "import mats_ray.cli.main",
    "driver of a caption job": "import {caption}.on_ray, mats_ray.cli.on_ray",
    "its decoder": "import {caption}.decode",
    "ingress": "import {app}",
    "decoder of the service": "import {child}",
    "audio encoder, loaded": "import {encoder} as m; from mats_ray.models.directory import read_info;"
    "m.AudioEncoder.from_info(read_info({model!r}))",
    "answerer, loaded": "import {answerer} as m; from mats_ray.models.directory import read_info;"
    "m.Answerer.from_info(read_info({model!r}))",
    "training driver": "import mats_ray.train.on_ray, mats_ray.cli.on_ray",
    "training worker": "import mats_ray.train.on_ray, mats_ray.train.on_deepspeed",
    "embedding worker": "import mats_ray.data.embedding.on_ray",
}
PLACES = {
    "caption": ("caption", "infer"),
    "app": ("serving/http/app", "serving/app"),
    "child": ("serving/decoding/child", "serving/decoder"),
    "encoder": ("infer/encoder", "infer/pipeline"),
    "answerer": ("infer/answerer", "infer/pipeline"),
}
"""Modules that moved: the first that a checkout has is measured."""

SCALING = "{min_replicas: 0, max_replicas: 1, upscale_delay_seconds: 0, downscale_delay_seconds: 5}"
REPORT = """
import resource, sys
usage = resource.getrusage(resource.RUSAGE_SELF)
print(len(sys.modules), usage.ru_utime + usage.ru_stime)
"""


class Usage:
    """CPU seconds of a process and all its descendants, those that have ended included."""

    def __init__(self, pid: int) -> None:
        self._root, self._seconds = psutil.Process(pid), dict[tuple[int, float], float]()
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def seconds(self) -> float:
        return sum(self._seconds.copy().values())

    def stop(self) -> float:
        self._ended.set()
        return self.seconds

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            try:
                for process in [self._root, *self._root.children(recursive=True)]:
                    times = process.cpu_times()
                    self._seconds[process.pid, process.create_time()] = times.user + times.system
            except psutil.Error:
                continue


def processes(side: Path, model: str) -> dict[str, tuple[float, ...]]:
    places = {
        name: next(
            f"mats_ray/{place}".replace("/", ".")
            for place in found
            if (side / f"mats_ray/{place}.py").is_file() or (side / f"mats_ray/{place}").is_dir()
        )
        for name, found in PLACES.items()
    }
    measured: dict[str, tuple[float, ...]] = {}
    for kind, code in KINDS.items():
        command = [sys.executable, "-c", code.format(**places, model=model) + REPORT]
        done = subprocess.run(command, cwd=side, capture_output=True, text=True, check=False)
        last = done.stdout.splitlines()[-1:] if done.returncode == 0 else []
        measured[kind] = tuple(map(float, last[0].split())) if last else (float("nan"), float("nan"))
    return measured


def caption(side: Path, model: str, audio: str) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "mats_ray", "caption", "--model", model, "--audio", audio]
        started = time.monotonic()
        with subprocess.Popen(
            [*command, "--out", out], cwd=side, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            usage = Usage(process.pid)
            while not list(Path(out).glob("part-*")):
                assert process.poll() is None, "the job ended without a row"
                time.sleep(0.05)
            seconds = time.monotonic() - started, usage.stop()
            process.wait()
    return seconds


def serve(side: Path, model: str) -> tuple[float, float]:
    started = time.monotonic()
    with serving(model) as (server, _):
        asyncio.run(first_answer(server.url))
        seconds = time.monotonic() - started
        family = [server.process, *server.process.children(recursive=True)]
        return seconds, sum(sum(one.cpu_times()[:2]) for one in family)


def zero(side: Path, model: str) -> tuple[float, float]:
    settings = [f"{name}.autoscaling={SCALING}" for name in ("encoder", "answerer")]
    with serving(model, *settings) as (server, _):
        until = time.monotonic() + 120
        while server.replicas("Encoder") + server.replicas("Answerer"):
            assert time.monotonic() < until, "the models were not scaled to zero"
            time.sleep(0.5)
        usage = Usage(server.process.pid)
        time.sleep(1)
        started, before = time.monotonic(), usage.seconds
        asyncio.run(first_answer(server.url))
        return time.monotonic() - started, usage.stop() - before


async def first_answer(url: str) -> Reply:
    import aiohttp

    async with aiohttp.ClientSession() as session:
        while (reply := await send(session, url, chat(0))).status != 200:
            await asyncio.sleep(0.1)
    return reply


def compare(
    name: str, sides: Sequence[Path], measure: Callable[[Path], tuple[float, float]], runs: int
) -> None:
    """Measure both sides in turn, after a first run of each that fills the file cache and is not counted."""
    found: dict[Path, list[tuple[float, float]]] = {side: [] for side in sides}
    for run in range(runs + 1):
        for side in sides:
            os.environ["PYTHONPATH"] = str(side)
            one = measure(side)
            if run:
                found[side].append(one)
    medians = [[statistics.median(values) for values in zip(*found[side], strict=True)] for side in sides]
    shown = " | ".join(f"{wall:.1f} s, {cpu:.1f} CPU s" for wall, cpu in medians)
    print(f"| {name} | {shown} | {medians[-1][0] / medians[0][0]:.2f} |", flush=True)


def main() -> None:
    """Print one Markdown line per kind of process or job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parts = ("processes", "caption", "serve", "zero")
    parser.add_argument("parts", nargs="*", choices=parts, metavar="PART")
    parser.add_argument("--baseline", type=Path, required=True, help="checkout of before")
    parser.add_argument("--model", default="out/demo/model")
    parser.add_argument("--audio", default="out/demo/audio")
    parser.add_argument("--files", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    sides, model = [args.baseline.resolve(), Path.cwd()], str(Path(args.model).resolve())
    if "processes" in args.parts:
        tables = []
        for side in sides:
            os.environ["PYTHONPATH"] = str(side)
            processes(side, model)  # fills the file cache
            tables.append(processes(side, model))
        for kind in KINDS:
            shown = " | ".join(
                f"{table[kind][0]:.0f} modules, {table[kind][1]:.2f} CPU s" for table in tables
            )
            print(f"| {kind} | {shown} |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for file in sorted(Path(args.audio).glob("*.wav"))[: args.files]:
            shutil.copy(file, folder)
        jobs = {
            "caption": lambda side: caption(side, model, folder),
            "serve": lambda side: serve(side, model),
            "zero": lambda side: zero(side, model),
        }
        for name in [part for part in parts[1:] if part in args.parts]:
            compare(name, sides, jobs[name], args.runs)


if __name__ == "__main__":
    main()
