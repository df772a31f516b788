"""Run every step of the Dockerfile without a container engine: ``python -m tests.dockerfile --scratch DIR``.

A stage is a root folder. Where the Dockerfile names Ray's image, the folder is a fresh Debian 12 with its
Python 3.11, a compiler and the user ``ray`` (debootstrap); RUN is bash in a chroot, as the stage's user, with
its variables; COPY copies what .dockerignore leaves. So all commands run, files land where they will, and the
last stage is looked at as the image would be; with ``--start`` its CMD runs there until its HEALTHCHECK
succeeds, and then a command beside it. What this cannot show: Ray's own image, its CUDA, layers, and what an
engine does with other metadata.

Needs root and Debian's debootstrap; takes minutes and some gigabytes. Run it under ``unshare --mount``, so
that nothing stays mounted, and ``--start`` in namespaces of its own as well (``--net --pid --fork
--mount-proc``), so that no port and no process is the host's. The quick part is
tests/unit/test_dockerfile.py.
"""

import argparse
import fnmatch
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
DEBIAN = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates,gcc,g++,make,sudo,bash"
"""Packages of the stand-in for Ray's image: Python, and what a final stage must not keep."""
START_SECONDS = 60
"""HEALTHCHECK's start period."""
BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LINE = re.compile(r"(?P<keyword>[A-Z]+)\s+(?P<rest>.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


class Step(NamedTuple):
    """One instruction."""

    keyword: str
    rest: str
    line: int


def steps(text: str) -> list[Step]:
    """Return the instructions, continued lines joined, comments dropped."""
    found, whole, start = [], "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#") or not line.strip():
            continue
        start = start or number
        whole += line.removesuffix("\\") if line.endswith("\\") else line
        if not line.endswith("\\"):
            match = _LINE.fullmatch(whole.strip())
            assert match, f"line {start} is no instruction: {whole}"
            found.append(Step(match["keyword"], match["rest"].strip(), start))
            whole, start = "", 0
    return found


def ignored(name: str, patterns: list[str]) -> bool:
    """Whether .dockerignore leaves out a path: the last pattern of it, or of a folder above it, decides."""
    parents = [name, *(str(one) for one in Path(name).parents if str(one) != ".")]
    out = False
    for pattern in patterns:
        bare = pattern.removeprefix("!").rstrip("/")
        tails = [bare, bare.removeprefix("**/")]
        names = [*parents, *(Path(one).name for one in parents)] if bare.startswith("**/") else parents
        if any(fnmatch.fnmatchcase(one, tail) for one in names for tail in tails):
            out = not pattern.startswith("!")
    return out


def context(root: Path) -> list[str]:
    """Return the files of the build's context, as .dockerignore leaves them."""
    lines = (root / ".dockerignore").read_text().splitlines()
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    tracked = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout
    return [name for name in tracked.splitlines() if (root / name).is_file() and not ignored(name, patterns)]


@dataclass
class Stage:
    """A root folder and what instructions have set."""

    root: Path
    shell: list[str] = field(default_factory=lambda: ["/bin/sh", "-c"])
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": BASE_PATH, "HOME": "/home/ray"})
    arguments: dict[str, str] = field(default_factory=dict)
    user: str = "1000:100"
    folder: str = "/home/ray"

    def value(self, text: str) -> str:
        """Replace variables as Docker does."""
        known = self.arguments | self.environment
        return _VARIABLE.sub(lambda match: known.get(match[1] or match[2], ""), text)

    def run(self, command: list[str]) -> None:
        """Run a command of the build inside, as the stage's user."""
        subprocess.run(
            self.entered(command, self.arguments | self.environment), check=True, stdin=subprocess.DEVNULL
        )

    def entered(self, command: list[str], environment: dict[str, str]) -> list[str]:
        """Return the command line that runs a command inside, as the stage's user, in its folder."""
        variables = [f"{key}={value}" for key, value in environment.items()]
        inside = f'cd {shlex.quote(self.folder)} && exec "$@"'
        return [
            "chroot", f"--userspec={self.user}", str(self.root), "/usr/bin/env", "-i", *variables,
            "/bin/bash", "-c", inside, "bash", *command,
        ]  # fmt: skip


class Build:
    """All stages of a Dockerfile, in a scratch folder."""

    def __init__(self, scratch: Path, *, given: dict[str, str], passed: list[str], binds: list[str]) -> None:
        self.scratch, self.given, self.binds = scratch, given, binds
        self.passed = {name: os.environ[name] for name in passed if name in os.environ}
        self.globals: dict[str, str] = {}
        self.stages: dict[str, Stage] = {}
        self.stage: Stage | None = None
        self.metadata: dict[str, list[str]] = {}

    def base(self) -> Path:
        """Return the stand-in for Ray's image, made on the first call."""
        root = self.scratch / "base"
        if not root.exists():
            making = self.scratch / "making"
            shutil.rmtree(making, ignore_errors=True)
            command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", DEBIAN, str(making)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            useradd = [
                "chroot",
                str(making),
                "useradd",
                "--create-home",
                "--uid",
                "1000",
                "--gid",
                "100",
                "ray",
            ]
            subprocess.run([*useradd, "--shell", "/bin/bash"], check=True)
            (making / "etc/sudoers.d/ray").write_text("ray ALL=NOPASSWD: ALL\n")
            making.rename(root)
        return root

    def start(self, name: str, *, again: bool) -> Stage:
        """Begin a stage, a copy of the base; or enter it again, with the host's resolver and mounts."""
        root = self.scratch / name
        if not again:
            subprocess.run(["rm", "-rf", "--one-file-system", root], check=True)
            subprocess.run(["cp", "-a", self.base(), root], check=True)
        for path in ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf"):
            if Path(path).is_file():
                shutil.copyfile(path, f"{root}{path}")
        for path in ("/proc", "/dev", "/dev/shm", *self.binds):
            (root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "--bind", path, f"{root}{path}"], check=True)
        return Stage(root, environment={"PATH": BASE_PATH, "HOME": "/home/ray"} | self.passed)

    def do(self, step: Step, *, again: bool = False) -> None:
        """Carry out one instruction; of one that an earlier call has done, only what it sets."""
        if again and step.keyword in ("RUN", "COPY"):
            return
        if step.keyword == "FROM":
            name = step.rest.partition(" AS ")[2]
            self.stage = self.stages[name] = self.start(name, again=again)
            return
        handler = getattr(self, f"on_{step.keyword.lower()}", None)
        if handler is None:  # EXPOSE, LABEL, HEALTHCHECK, CMD: said of the image, run by nobody here
            self.metadata.setdefault(step.keyword, []).append(self.now.value(step.rest))
        else:
            handler(step.rest)

    @property
    def now(self) -> Stage:
        assert self.stage is not None
        return self.stage

    def on_arg(self, rest: str) -> None:
        name, equals, default = rest.partition("=")
        if self.stage is None:
            self.globals[name] = self.given.get(name, default)
        elif name in self.given or equals or name in self.globals:
            self.stage.arguments[name] = self.given.get(name, default or self.globals.get(name, ""))

    def on_env(self, rest: str) -> None:
        for one in shlex.split(rest):
            name, _, value = one.partition("=")
            self.now.environment[name] = self.now.value(value)

    def on_shell(self, rest: str) -> None:
        self.now.shell = json.loads(rest)

    def on_user(self, rest: str) -> None:
        self.now.user = rest

    def on_workdir(self, rest: str) -> None:
        self.now.folder = rest
        folder = self.now.root / rest.lstrip("/")
        if not folder.is_dir():
            folder.mkdir(parents=True)
            os.chown(folder, *(int(one) for one in self.now.user.split(":")))

    def on_copy(self, rest: str) -> None:
        words = shlex.split(rest)
        options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
        *sources, target = [word for word in words if not word.startswith("--")]
        place = Path(target) if target.startswith("/") else Path(self.now.folder) / target
        uid, gid = (int(one) for one in options.get("chown", "0:0").split(":"))
        for source in sources:
            if "from" in options:
                inside = self.now.root / str(place).lstrip("/")
                inside.parent.mkdir(parents=True, exist_ok=True)
                origin = self.stages[options["from"]].root / source.lstrip("/")
                subprocess.run(["cp", "-a", origin, inside], check=True)
                subprocess.run(["chown", "-R", f"{uid}:{gid}", inside], check=True)
            else:
                self.copy(source, place, to_folder=target.endswith("/"), owner=(uid, gid))

    def copy(self, source: str, place: Path, *, to_folder: bool, owner: tuple[int, int]) -> None:
        """Copy a file, or the content of a folder, of the context."""
        names = [name for name in context(ROOT) if name == source or name.startswith(f"{source}/")]
        assert names, f"COPY {source}: not in the context"
        for name in names:
            rest = Path(name).relative_to(source) if name != source else Path(name if to_folder else "")
            target = self.now.root / str(place / rest).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
            for one in (target, *target.parents):
                if one == self.now.root / str(place).lstrip("/") or one == target or place in one.parents:
                    os.chown(one, *owner)

    def on_run(self, rest: str) -> None:
        self.now.run([*self.now.shell, rest])

    def container(self, command: list[str]) -> int:
        """Run the last stage's CMD until its HEALTHCHECK succeeds, then a command; return its exit code."""
        (started,), (check,) = self.metadata["CMD"], self.metadata["HEALTHCHECK"]
        environment = self.now.environment | {"RAY_AUTH_TOKEN": secrets.token_hex(16)}
        probe = self.now.entered(json.loads(check.partition("CMD")[2]), environment)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        process = subprocess.Popen(self.now.entered(json.loads(started), environment))
        began = time.monotonic()
        try:
            while subprocess.run(probe, stderr=subprocess.DEVNULL).returncode:  # noqa: PLW1510
                assert process.poll() is None, f"CMD ended with exit code {process.returncode}"
                assert time.monotonic() - began < START_SECONDS, "HEALTHCHECK did not succeed"
                time.sleep(1)
            print(f"HEALTHCHECK succeeds after {time.monotonic() - began:.0f} s", flush=True)
            return subprocess.run(self.now.entered(command, environment)).returncode  # noqa: PLW1510
        finally:
            process.terminate()
            process.wait()


def main() -> int:
    """Run all steps and print each with its seconds."""
    parser = argparse.ArgumentParser(description="Run the steps of the Dockerfile in a chroot.")
    parser.add_argument(
        "--scratch", type=Path, required=True, metavar="DIR", help="folder for the roots, kept"
    )
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--pass", action="append", default=[], dest="passed", metavar="NAME", help="a variable"
    )
    parser.add_argument("--bind", action="append", default=[], metavar="DIR", help="a folder of this machine")
    parser.add_argument("--resume", action="store_true", help="go on after the last step that was done")
    parser.add_argument(
        "--start", nargs=argparse.REMAINDER, metavar="COMMAND", help="then start CMD, and run this beside it"
    )
    args = parser.parse_args()
    given = dict(one.split("=", 1) for one in args.build_arg)
    args.scratch.mkdir(parents=True, exist_ok=True)
    build = Build(args.scratch.resolve(), given=given, passed=args.passed, binds=args.bind)
    record = args.scratch / "done.json"
    before = json.loads(record.read_text()) if args.resume and record.exists() else []
    done: list[list[str]] = []
    for step in steps((ROOT / "Dockerfile").read_text()):
        print(f"{step.line}: {step.keyword} {step.rest[:100]}", flush=True)
        began = time.monotonic()
        done.append([step.keyword, step.rest])
        again = before[: len(done)] == done
        try:
            build.do(step, again=again)
            record.write_text(json.dumps(before if again else done))
        except subprocess.CalledProcessError as error:
            print(f"line {step.line} failed with exit code {error.returncode}", file=sys.stderr)
            return 1
        print(f"   {time.monotonic() - began:.1f} s", flush=True)
    for keyword, values in build.metadata.items():
        print(f"{keyword}: {len(values)}")
    return build.container(args.start) if args.start else 0


if __name__ == "__main__":
    sys.exit(main())
