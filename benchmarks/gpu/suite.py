"""Running parts one after the other, each in a process of its own, and keeping what is done.

A part's result is a file. It counts as long as code, size, device and packages are the same: a suite that was
ended goes on with the parts that are left.
"""

import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import Part

ROOT = Path(__file__).parents[2]
CODE = ("mats_ray", "benchmarks", "tests/gpu", "tests/golden", "tests/world.py")
"""What a result depends on."""
PACKAGES = ("torch", "transformers", "peft", "accelerate", "deepspeed", "ray", "triton")
GRACE_S, KILL_S = 20, 10
"""Seconds between asking a process to end and ending it, and in which it then is gone."""


def revision() -> str:
    """Hash the code: 12 hex digits. There may be no git where a card is."""
    digest = hashlib.blake2b(digest_size=6)
    for name in CODE:
        top = ROOT / name
        for path in sorted(top.rglob("*.py")) if top.is_dir() else [top]:
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def environment(size: str, device: str) -> dict[str, Any]:
    """Say what is measured, with what, and where."""
    import torch

    on_card = device == "cuda"
    name = torch.cuda.get_device_name() if on_card else f"CPU, {torch.get_num_threads()} threads"
    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    if on_card:
        versions["cuda"] = str(torch.version.cuda)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "size": size,
        "device": device,
        "device_name": name,
        "revision": revision(),
        "versions": versions,
    }


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Parts of one size on one device.

    Attributes:
        folder: Where results are, and what the parts make for one another.
        environment: As ``environment`` returns it.
        command: Runs one part, with its name and the file for its result behind.
    """

    folder: Path
    environment: Mapping[str, Any]
    command: Sequence[str]

    def run(self, part: Part, *, limit_s: float, again: bool = False) -> dict[str, Any]:
        """Return the result of a part: the one that is there, or one of now that takes at most so long."""
        if not again and (kept := self._kept(part)) is not None:
            return kept | {"was_kept": True}
        missing = [name for name in part.needs if importlib.util.find_spec(name) is None]
        started, left_s = time.monotonic(), limit_s - GRACE_S - KILL_S
        if missing:
            tree = {"status": "not run", "error": f"not installed: {', '.join(missing)}"}
        elif left_s <= 0:
            tree = {"status": "not run", "error": "no time is left"}
        else:
            tree = self._measure(part, min(left_s, part.limit_s))
        tree = {"part": part.name, "seconds": time.monotonic() - started, "key": self._key()} | tree
        self._file(part).parent.mkdir(parents=True, exist_ok=True)
        self._file(part).write_text(json.dumps(tree, indent=1))
        return tree

    def results(self, parts: Sequence[Part]) -> list[dict[str, Any]]:
        """Return what is known of each part, in order."""
        blank = {"status": "not run", "seconds": 0.0}
        return [self._read(part) or blank | {"part": part.name} for part in parts]

    def _measure(self, part: Part, limit_s: float) -> dict[str, Any]:
        result, log = self._file(part).with_suffix(".new"), self._file(part).with_suffix(".log")
        result.parent.mkdir(parents=True, exist_ok=True)
        result.unlink(missing_ok=True)
        variables = os.environ | {"MATS_GPU_WORK": str(self.folder / "work")}
        with log.open("w") as output:
            process = subprocess.Popen(
                [*self.command, part.name, str(result)],
                cwd=ROOT,
                env=variables,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status, error = process.wait(limit_s), None
            except subprocess.TimeoutExpired:
                status, error = None, f"not done within {limit_s:.0f} s"
            finally:
                _end(process)
        outcome = json.loads(result.read_text()) if result.is_file() else {}
        result.unlink(missing_ok=True)
        if error is None and (status or not outcome):
            error = _last_line(log) or f"exit {status}"
        if error is not None:
            return outcome | {"status": "failed", "error": error, "log": str(log)}
        if outcome["failures"]:
            return outcome | {"status": "failed", "error": outcome["failures"][0]}
        return outcome | {"status": "ok"}

    def _key(self) -> dict[str, Any]:
        names = ("revision", "size", "device", "device_name", "versions")
        return {name: self.environment[name] for name in names}

    def _file(self, part: Part) -> Path:
        return (
            self.folder
            / "parts"
            / f"{self.environment['size']}-{self.environment['device']}"
            / f"{part.name}.json"
        )

    def _read(self, part: Part) -> dict[str, Any] | None:
        try:
            tree = json.loads(self._file(part).read_text())
        except (FileNotFoundError, ValueError):  # none, or one that was being written
            return None
        return tree if tree["key"] == self._key() else None

    def _kept(self, part: Part) -> dict[str, Any] | None:
        tree = self._read(part)
        return tree if tree is not None and tree["status"] == "ok" else None


def _end(process: subprocess.Popen) -> None:
    """End a part and what it has started: its own group, which is nobody else's."""
    for number, seconds in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, KILL_S)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            if number == signal.SIGKILL:
                return


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
