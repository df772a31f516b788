"""The source tree as data: files, syntax trees, and a fresh interpreter to import things in."""

import ast
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = sorted((ROOT / "mats_ray").rglob("*.py"))
JOBS = sorted((ROOT / "jobs").glob("*.py"))
SERVE = sorted((ROOT / "serve").glob("*.py"))

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


def name_of(path: Path) -> str:
    """Name a file as a test report should: ``mats_ray/train/loop.py``."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def imported_roots(path: Path) -> set[str]:
    """Return the first names of everything a file imports, wherever in the file: ``{"ray", "torch"}``."""
    roots = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            roots.add(node.module.split(".")[0])
    return roots


def run_python(code: str) -> list[str]:
    """Run code in a fresh interpreter at the root of the repository and return the lines it prints."""
    done = subprocess.run(  # -B: writing bytecode is no doing of ours
        [sys.executable, "-B", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def listed(offenders: Iterable[object]) -> str:
    """Put each offender on a line of its own, so that a failing test names them all."""
    return "\n" + "\n".join(map(str, offenders))
