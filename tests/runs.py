"""Helpers for training runs: another one in the same world, its losses, its processes, its driver."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from mats_ray.config import RunConfig
from mats_ray.train.metrics_logger import read_records

WAIT_SECONDS = 300
TRAIN_WORKERS = ("RayTrainWorker", "_TrainWorker")


def other_run(world: RunConfig, name: str, **changes: Any) -> RunConfig:
    """The same world, another run with a model directory of its own."""
    other = world.replace(
        name=name,
        output_dir=f"{world.output_dir}/{name}",
        model={"clap": {"ref": world.clap_ref}, "llm": {"path": world.llm_path}},
        data={"embedded": world.embedded_path},
        memory={"path": world.memory_path},
    )
    return other.replace(**changes)


def losses(metrics: str) -> dict[int, float]:
    """Read the losses of a ``metrics.jsonl``, by step."""
    return {step: record["loss"] for step, record in read_records(metrics).items()}


def train_worker_pids(root: int | None = None) -> list[int]:
    """Find training workers below a process, by default this one: other sessions have theirs."""
    found = []
    for process in psutil.Process(root).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(name in " ".join(process.cmdline()) for name in TRAIN_WORKERS):
                found.append(process.pid)
    return found


def until(condition: Callable[[], bool], *, what: str) -> None:
    """Wait for a condition; ``what`` names it in the error."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {WAIT_SECONDS} s"
        threading.Event().wait(0.05)


@contextlib.contextmanager
def driver(config: RunConfig, address: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``mats train`` on a cluster, as ``ray job submit`` does, in a process one may kill.

    Args:
        config: Configuration of a run whose parts are all there: it builds no toy world.
        address: Address of the cluster.
        log: File for its output.
    """
    file = log.with_suffix(".yaml")
    file.write_text(config.replace(toy=None).to_yaml(), "utf-8")
    environment = {**os.environ, "RAY_ADDRESS": address, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "mats_ray", "train", "--config", str(file)]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def metrics_of(config: RunConfig) -> str:
    return f"{config.runs_dir}/{config.name}/metrics.jsonl"


def last_step(config: RunConfig) -> int:
    return max(read_records(metrics_of(config)), default=0)
