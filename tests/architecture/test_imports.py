"""Rules for imports between modules, and for the effects of an import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import (
    JOBS,
    PACKAGE,
    ROOT,
    SERVE,
    imported_roots,
    listed,
    name_of,
    run_python,
    tree_of,
)

HEAVY = {"deepspeed", "fastapi", "numpy", "pandas", "peft", "pyarrow", "ray", "torch", "transformers"}


def test_the_layer_contracts_hold():
    lint_imports = Path(sys.executable).with_name("lint-imports")

    done = subprocess.run([lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("library", "home"), [("ray", "on_ray.py"), ("deepspeed", "on_deepspeed.py")])
def test_a_framework_is_imported_by_a_file_or_package_of_one_name_only(library, home):
    elsewhere = [
        name_of(path)
        for path in PACKAGE + JOBS + SERVE
        if library in imported_roots(path) and home not in {path.name, f"{path.parent.name}.py"}
    ]

    assert not elsewhere, listed(elsewhere)


def test_importing_the_package_loads_the_standard_library_only():
    loaded = run_python(
        "import sys; before = set(sys.modules)\n"
        "import mats_ray\n"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before}, sep='\\n')"
    )

    assert set(loaded) - sys.stdlib_module_names == {"mats_ray"}


def test_the_command_line_starts_without_a_heavy_library():
    loaded = run_python("import sys, mats_ray.cli.main; print(*sys.modules, sep='\\n')")

    assert not HEAVY & set(loaded)


def test_importing_the_package_touches_nothing_outside_the_interpreter():
    """No socket, no process, no file written, no environment variable read."""
    events = run_python(
        """
import os, sys
WATCHED = ("socket.", "subprocess.", "os.system", "os.exec", "os.spawn", "os.mkdir", "os.remove", "os.rename",
           "os.putenv", "shutil.", "urllib.")
events = []
def watch(event, args):
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if event.startswith(WATCHED) or writes:
        events.append(f"{event} {args}")
def read(environ, key, __getitem__=type(os.environ).__getitem__):
    events.append(f"environment {key}")
    return __getitem__(environ, key)
type(os.environ).__getitem__ = read
sys.addaudithook(watch)
import mats_ray
del type(os.environ).__getitem__
print(*events, sep="\\n", end="\\n" if events else "")
"""
    )

    assert not events, listed(events)


def test_the_hooks_detect_every_effect():
    """The same hooks on code that does all of it: a test that cannot fail proves nothing."""
    seen = run_python(
        """
import os, socket, sys
sys.addaudithook(lambda event, args: print(event) if event in ("socket.connect", "open") else None)
try:
    socket.create_connection(("127.0.0.1", 9), timeout=0.1)
except OSError:
    pass
open(os.devnull, "w").close()
"""
    )

    assert {"socket.connect", "open"} <= set(seen)


def test_no_module_reads_the_environment_when_it_is_imported():
    readers = [
        f"{name_of(path)}:{node.lineno}"
        for path in PACKAGE + JOBS + SERVE
        for node in walk_what_import_runs(tree_of(path))
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "environb", "getenv"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    ]

    assert not readers, listed(readers)


def walk_what_import_runs(node):
    """Like ``ast.walk``, without the bodies of functions."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from walk_what_import_runs(child)
