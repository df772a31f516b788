"""Wheels that ``make gpu`` needs on a bare GPU machine: Python 3.12, a CUDA build of torch, no network.

    python -m benchmarks.gpu_wheels --list                          # names, versions, what each is for
    python -m benchmarks.gpu_wheels --fetch wheels                  # 60 MiB at most, by pip's own settings
    python -m benchmarks.gpu_wheels --fetch wheels --have freeze.txt    # less what that machine has already

``freeze.txt`` is what ``pip list --format=freeze`` prints there; a package that is there is fetched only
where its version is none that pyproject.toml and the fetched packages allow. Versions are those of
requirements.lock. There: ``pip install --no-index --no-deps wheels/*.whl``.

What does not fit is left out, the least needed first, and named with the parts that go without it. Ray is
never among them, as it is larger than all of this: the caption job and the service run in single processes.
"""

import argparse
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).parents[1]
LIMIT_MIB = 60
PYTHON = "3.12"
GLIBC = (39, 38, 36, 35, 34, 31, 28, 27, 24, 17)
"""Versions 2.x of wheels' C libraries that are asked for, newest first; pip compares them one by one."""
WANTED = {
    "models": ("pyyaml", "pydantic", "transformers", "tokenizers", "safetensors", "peft", "accelerate"),
    "tests": ("pytest", "pytest-timeout"),
    "caption job and service": ("soundfile", "soxr", "psutil"),
    "service": ("fastapi", "starlette", "uvicorn", "aiohttp", "python-multipart", "prometheus-client"),
    "training by DeepSpeed": ("deepspeed",),
    "caption job": ("pyarrow",),
}
"""Packages by what they are for, the most needed first; what these need follows from the lock."""
NEVER = {"ray", "triton", "torch", "torchvision", "torchaudio", "numpy"}
"""There with torch, or too large; ``nvidia-*`` likewise."""


@dataclass(frozen=True)
class Locked:
    """A line of the lock."""

    name: str
    version: str
    needed_by: frozenset[str]


def read_lock(text: str) -> dict[str, Locked]:
    """Read ``name==version  # via a, b`` lines, by name."""
    found = {}
    for line in text.splitlines():
        match = re.match(
            r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;#]+)[^#]*(?:#\s*via\s+(.*))?$", line.strip()
        )
        if match:
            name = canonicalize_name(match[1])
            via = (part.split("(")[0].strip() for part in (match[3] or "").split(","))
            found[name] = Locked(name, match[2], frozenset(canonicalize_name(one) for one in via if one))
    return found


def needed(lock: Mapping[str, Locked], roots: Iterable[str]) -> list[str]:
    """Return roots and all that they need, without what a machine with torch has."""
    there = _closure(lock, ["torch"]) | NEVER
    wanted = _closure(lock, [canonicalize_name(root) for root in roots])
    return sorted(name for name in wanted - there if not name.startswith("nvidia-"))


def _closure(lock: Mapping[str, Locked], roots: Iterable[str]) -> set[str]:
    found = {root for root in roots if root in lock}
    while more := {one.name for one in lock.values() if one.needed_by & found} - found - NEVER:
        found |= more
    return found


def plan(lock: Mapping[str, Locked]) -> dict[str, str]:
    """Return every package and what it is for, the most needed first."""
    purposes: dict[str, str] = {}
    for purpose, roots in WANTED.items():
        for name in needed(lock, roots):
            purposes.setdefault(name, purpose)
    return purposes


def read_freeze(text: str) -> dict[str, str]:
    """Read ``name==version`` lines."""
    pairs = (line.strip().split("==") for line in text.splitlines() if "==" in line)
    return {canonicalize_name(name): version for name, version in pairs}


def requirements_of(wheel: Path) -> Iterator[Requirement]:
    """Yield what a wheel needs on Linux and this Python, extras left out."""
    with zipfile.ZipFile(wheel) as content:
        name = next(n for n in content.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(content.read(name).decode())
    machine = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0", "extra": ""}
    machine |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    for line in metadata.get_all("Requires-Dist") or []:
        one = Requirement(line)
        if one.marker is None or one.marker.evaluate(machine):
            yield one


@dataclass
class Fetching:
    """Wheels in a folder, and what has been decided about each package."""

    lock: Mapping[str, Locked]
    folder: Path
    have: Mapping[str, str]
    allowed: dict[str, SpecifierSet]
    """Versions that packages may have, by name: of pyproject.toml, and of what has been fetched."""
    fetch: Callable[[Locked, Path], Path]
    limit: int = LIMIT_MIB * 2**20

    def run(self) -> tuple[dict[str, Path], dict[str, str]]:
        """Return the wheels by package, and what was left out with its purpose and size."""
        purposes, wheels, left_out = plan(self.lock), dict[str, Path](), dict[str, str]()
        while todo := [
            n for n in purposes if n not in wheels and n not in left_out and not self._is_there(n)
        ]:
            name = todo[0]
            wheel = self.fetch(self.lock[name], self.folder)
            size = wheel.stat().st_size
            if sum(one.stat().st_size for one in wheels.values()) + size > self.limit:
                left_out[name] = f"{purposes[name]}, {size / 2**20:.1f} MiB"
                wheel.unlink()
                continue
            wheels[name] = wheel
            for one in requirements_of(wheel):
                key = canonicalize_name(one.name)
                self.allowed[key] = self.allowed.get(key, SpecifierSet()) & one.specifier
        return wheels, left_out

    def _is_there(self, name: str) -> bool:
        version = self.have.get(name)
        return version is not None and self.allowed.get(name, SpecifierSet()).contains(
            version, prereleases=True
        )


def by_pip(locked: Locked, folder: Path) -> Path:
    """Fetch one wheel by pip; where there is only source, build a wheel that is of no machine."""
    target = f"{locked.name}=={locked.version}"
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in GLIBC] + ["manylinux2014_x86_64", "any"]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", PYTHON, "--implementation", "cp", "-d", str(folder), target]
    command += [word for platform in platforms for word in ("--platform", platform)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w"]
        subprocess.run([*build, str(folder), target], check=True)
    found = [path for path in folder.glob("*.whl") if parse_wheel_filename(path.name)[0] == locked.name]
    fitting = [path for path in found if f"-{locked.version}-" in path.name]
    if not fitting or (done.returncode and not fitting[0].name.endswith("-any.whl")):
        raise SystemExit(f"no wheel of {target} for Python {PYTHON} on Linux: {done.stderr[-300:]}")
    return fitting[0]


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="name what is needed; nothing is fetched")
    what.add_argument("--fetch", type=Path, metavar="DIR", help="fetch it into a folder")
    parser.add_argument("--have", type=Path, metavar="FILE", help="pip list --format=freeze of the machine")
    parser.add_argument("--limit", type=int, default=LIMIT_MIB, help="MiB in all (default: %(default)s)")
    args = parser.parse_args()
    lock = read_lock((ROOT / "requirements.lock").read_text())
    have = read_freeze(args.have.read_text()) if args.have else {}
    allowed = pinned((ROOT / "pyproject.toml").read_text())
    if args.list:
        for name, purpose in plan(lock).items():
            there = f", {have[name]} is there" if name in have else ""
            print(f"{name}=={lock[name].version}  # {purpose}{there}")
        return 0
    args.fetch.mkdir(parents=True, exist_ok=True)
    fetching = Fetching(lock, args.fetch, have, allowed, by_pip, args.limit * 2**20)
    wheels, left_out = fetching.run()
    return tell(wheels, left_out, limit_mib=args.limit)


def pinned(pyproject: str) -> dict[str, SpecifierSet]:
    """Return the versions that our own pyproject.toml allows; torch's is whatever the machine has."""
    project = tomllib.loads(pyproject)["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return {canonicalize_name(one.name): one.specifier for one in map(Requirement, lines)}


def tell(wheels: Mapping[str, Path], left_out: Mapping[str, str], *, limit_mib: int) -> int:
    """Print the wheels, their total, and what was left out; 1 if they are too large together."""
    sizes = {path: path.stat().st_size for path in wheels.values()}
    for path, size in sorted(sizes.items(), key=lambda pair: -pair[1]):
        print(f"{size / 2**20:6.1f} MiB  {path.name}")
    total = sum(sizes.values()) / 2**20
    print(f"{total:6.1f} MiB in {len(sizes)} wheels, of {limit_mib} MiB")
    for name, why in left_out.items():
        print(f"left out, as it does not fit: {name} ({why})")
    return int(total > limit_mib)


if __name__ == "__main__":
    sys.exit(main())
