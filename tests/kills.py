"""A captioning job whose processes are killed at random moments, run again until it ends by itself.

python -m tests.kills ADDRESS AUDIO OUT MODEL       # the driver that is killed
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import psutil

from mats_ray.config.caption import CaptionConfig
from mats_ray.config.generation import GenerationConfig

ROOT = Path(__file__).parents[1]
STAGES = {"decoder": "DecodeStage", "model": "AnswerStage"}
"""Titles that Ray gives to the processes at work on a stage."""
LONGEST_WAIT_S = 1.5
MOST_ROWS = 60
DEADLINE_S = 240


SECTIONS = (
    CaptionConfig(batch_size=2, window="clap", max_error_fraction=1.0),
    GenerationConfig(profile="paper", max_new_tokens=24),
)
"""Small batches, windows, beams: several rows per file and much work between two of them."""


@dataclass(frozen=True, slots=True)
class Kill:
    """Kind of process and moment: a number of rows, then seconds after the last of them."""

    kind: str
    after_rows: int
    after_s: float

    @classmethod
    def draw(cls, kinds: Sequence[str], *, seed: int) -> "Iterator[Kill]":
        """Draw kinds, each as often as the others, and moments, for ever.

        Decoders come first, as they are soon done, and drivers last, as their job ends with them. Half of the
        moments may come before another row, while models are loaded.
        """
        chance, place = Random(seed), {"decoder": -1, "driver": 1}
        while True:
            for kind in sorted(chance.sample(kinds, len(kinds)), key=lambda kind: place.get(kind, 0)):
                rows = 0 if kind == "decoder" else chance.choice([0, chance.randint(1, MOST_ROWS)])
                yield cls(kind, rows, chance.uniform(0, LONGEST_WAIT_S))


@dataclass(frozen=True, kw_only=True)
class Job:
    """A captioning job on a cluster whose processes are below this one.

    Attributes:
        address: Address of the cluster.
        audio, out, model: As for ``mats caption``.
        kill_node: Kills a node and adds another.
        log: Called with a line per event.
        driver: Module of the driver, with the arguments of this one.
    """

    address: str
    audio: str
    out: str
    model: str
    log: Callable[[str], None]
    kill_node: Callable[[], None] = lambda: None
    driver: str = "tests.kills"

    def run(self, kills: Iterator[Kill]) -> int:
        """Start drivers until one ends as it should, and kill on the way; returns how many were killed.

        Raises:
            AssertionError: A driver failed with nothing killed, or there was nothing to kill for minutes.
        """
        num_hits, ended = 0, False
        while not ended:
            hits, ended = self._run_one(kills)
            num_hits += hits
        return num_hits

    def _run_one(self, kills: Iterator[Kill]) -> tuple[int, bool]:
        command = [sys.executable, "-m", self.driver, self.address, self.audio, self.out, self.model]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        num_hits, log_file = 0, Path(f"{self.out}.log")
        with (
            log_file.open("ab") as log,
            subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log) as driver,
        ):
            try:
                while (kill := next(kills, None)) and self._execute(kill, driver):
                    num_hits += 1
                    if kill.kind == "driver":
                        return num_hits, False
                driver.wait(timeout=DEADLINE_S)
            finally:
                driver.kill()
        assert driver.returncode == 0 or num_hits, f"the driver failed by itself:\n{log_file.read_text()}"
        last = (log_file.read_text().strip().splitlines() or [""])[-1]
        ended = "ended by itself" if driver.returncode == 0 else f"failed ({last}), and is run again"
        self.log(f"the job {ended}, {num_rows(self.out)} rows written")
        return num_hits, driver.returncode == 0

    def _execute(self, kill: Kill, driver: subprocess.Popen[bytes]) -> bool:
        """Kill what is to be killed; False if the job ended before."""
        stage, before = STAGES.get(kill.kind, STAGES["decoder"]), num_rows(self.out)
        _until(lambda: _at_work(stage) or num_rows(self.out) > before, driver)
        _until(lambda: num_rows(self.out) >= before + kill.after_rows, driver)
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(timeout=kill.after_s)
        if kill.kind in STAGES:
            victims = _until(lambda: _at_work(stage), driver)
        else:
            victims = [driver] if driver.poll() is None else []
        if not victims:
            return False
        if kill.kind == "node":
            self.kill_node()
        else:
            victims[0].kill()
        self.log(f"{kill.kind} killed, {num_rows(self.out)} rows written")
        return True


def num_rows(out: str) -> int:
    """Count the rows in the parts of a folder."""
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(part).num_rows for part in Path(out).glob("*.parquet"))


def _until(found: Callable[[], Any], driver: subprocess.Popen[bytes]) -> Any:
    """Poll until a value is found; None if the driver ends before."""
    deadline = time.monotonic() + DEADLINE_S
    while driver.poll() is None:
        if what := found():
            return what
        assert time.monotonic() < deadline, f"nothing to kill for {DEADLINE_S} s"
        time.sleep(0.01)
    return None


def _at_work(stage: str) -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if stage in _title(one)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""


def main() -> None:
    """Run the job as its driver."""
    import ray

    from mats_ray.caption import on_ray
    from mats_ray.caption import output as parts

    address, audio, out, model = sys.argv[1:]
    parts.FIRST_FLUSH_SECONDS = 0  # a part for every batch: the more there is to go wrong
    ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    on_ray.caption(*SECTIONS, audio=audio, out=out, model=model)


if __name__ == "__main__":
    main()
