"""Processes of a rehearsal's stages: each a shipped entry, with its log, its time and its memory."""

import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from mats_ray.errors import RehearsalError
from mats_ray.process_memory import ProcessMemory, descendants

POLL_SECONDS, SAMPLE_SECONDS = 0.2, 1.0
END_SECONDS = 120.0
"""Time in which all processes of an ended stage must be gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """Measurements of one stage."""

    name: str
    seconds: float
    total_gb: float
    """Highest sum of the memory of all its processes."""
    peaks_gb: dict[str, float]
    """Memory of the largest process of each role."""
    disk_bytes: int
    """Size of what it wrote."""

    def peak_gb(self, role: str) -> float:
        """Return the memory of the largest process whose role begins with a name; 0 if there was none."""
        return max((size for name, size in self.peaks_gb.items() if name.startswith(role)), default=0.0)


class StageRunner:
    """Runs stages one after the other and measures them.

    Args:
        logs: Folder of their logs.
        announce: Called with a line when a stage begins and when it ends.
    """

    def __init__(self, logs: Path, announce: Callable[[str], None]) -> None:
        self._logs, self._announce = logs, announce
        # Ray's programs differ in their default; a token of our own keeps others out of these clusters
        self._environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), **os.environ}
        logs.mkdir(parents=True, exist_ok=True)
        self.results = list[StageResult]()

    def run(self, name: str, command: Sequence[str], *, wrote: Sequence[Path] = ()) -> None:
        """Run a command to its end.

        Args:
            name: Of the stage.
            command: Program and arguments.
            wrote: Files and folders whose size is measured afterwards.

        Raises:
            RehearsalError: It failed.
        """
        with self.process(name, command, wrote=wrote) as process:
            code = process.wait()
            if code:
                raise RehearsalError(f"stage {name} failed with exit code {code}: {self._cause(name)}")

    def kill(
        self, name: str, command: Sequence[str], when: Callable[[], bool], *, wrote: Sequence[Path] = ()
    ) -> None:
        """Run a command and kill its first process (SIGKILL) when a condition is met.

        Raises:
            RehearsalError: It ended before, or its processes outlive it.
        """
        with self.process(name, command, wrote=wrote) as process:
            while not when():
                if process.poll() is not None:
                    raise RehearsalError(f"stage {name} ended before it was killed: {self._cause(name)}")
                time.sleep(POLL_SECONDS)
            below = descendants(process.pid)
            process.kill()
            process.wait()
            _await_end(name, below)

    @contextmanager
    def process(
        self, name: str, command: Sequence[str], *, wrote: Sequence[Path] = ()
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start a stage's process and measure it until the block ends; the block ends the process."""
        self._announce(f"{name}: {' '.join(command)}")
        started = time.monotonic()
        with self.log(name).open("wb") as log:
            process = subprocess.Popen(  # noqa: S603
                command, stdout=log, stderr=subprocess.STDOUT, env=self._environment
            )
            try:
                with ProcessMemory(process.pid, interval=SAMPLE_SECONDS) as memory:
                    yield process
            finally:
                if process.poll() is None:
                    below = descendants(process.pid)
                    process.terminate()
                    process.wait(END_SECONDS)
                    _await_end(name, below)
        result = StageResult(
            name=name,
            seconds=time.monotonic() - started,
            total_gb=memory.total_gb,
            peaks_gb=memory.peaks_gb,
            disk_bytes=sum(size_of(path) for path in wrote),
        )
        self.results.append(result)
        self._announce(f"{name}: {result.seconds:.0f} s, {result.total_gb:.1f} GB at most")

    def log(self, name: str) -> Path:
        """Return the path of a stage's log."""
        return self._logs / f"{name.replace(' ', '_')}.log"

    def _cause(self, name: str) -> str:
        """Return the last line that a stage printed, and where the others are."""
        lines = self.log(name).read_text("utf-8", errors="replace").strip().splitlines()
        return f"{lines[-1] if lines else 'no output'} (log: {self.log(name)})"


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder; 0 where there is none."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def _await_end(name: str, processes: Sequence[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=END_SECONDS)
    if alive:
        raise RehearsalError(f"stage {name}: {len(alive)} of its processes outlive it by {END_SECONDS:.0f} s")
