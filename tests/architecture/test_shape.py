"""Limits on the size of files, folders and functions; thin jobs; a docstring for everything public."""

import ast
from collections import Counter

from tests.architecture.source import JOBS, PACKAGE, SERVE, Definition, Function, listed, name_of, tree_of

MIN_FILE_LINES, MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_JOB_LINES = 25, 400, 40, 30
MAX_FOLDER_FILES = 20
ONE_FILE_EACH = {
    "mats_ray/cli": "command",
    "mats_ray/config": "section of a configuration",
    "mats_ray/data/sources": "source",
    "mats_ray/evaluate/benchmarks": "benchmark",
}
"""Folders in which a file is one of a kind, however short it is and however many there are."""
SHORT_FILES = {
    "mats_ray/version.py": "imported from every layer, and by the build",
}
"""Short files, each with the reason why it is a file: any other belongs into the file of its idea."""
MODULES = [path for path in PACKAGE if path.stem not in {"__init__", "__main__"}]
CATCH_ALL_NAMES = {"utils", "util", "helpers", "helper", "misc", "common"}


def test_a_file_is_short_enough():
    lines = {name_of(path): len(path.read_text().splitlines()) for path in PACKAGE + SERVE}

    long = [f"{name}: {count} lines" for name, count in lines.items() if count > MAX_FILE_LINES]
    assert not long, listed(long)


def test_a_file_is_no_fragment():
    lines = {name_of(path): len(path.read_text().splitlines()) for path in MODULES}
    short = {
        name
        for name, count in lines.items()
        if count < MIN_FILE_LINES and folder_of(name) not in ONE_FILE_EACH
    }

    fragments = [f"{name}: {lines[name]} lines" for name in sorted(short - SHORT_FILES.keys())]
    assert not fragments, listed(fragments)
    assert SHORT_FILES.keys() <= short, listed(SHORT_FILES.keys() - short)


def test_a_folder_has_few_files():
    counts = Counter(folder_of(name_of(path)) for path in MODULES)

    full = [
        f"{folder}: {count} files"
        for folder, count in counts.items()
        if count > MAX_FOLDER_FILES and folder not in ONE_FILE_EACH
    ]
    assert not full, listed(full)


def folder_of(name):
    return name.rpartition("/")[0]


def test_a_function_fits_on_a_screen():
    lines = {
        f"{name_of(path)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in PACKAGE + JOBS + SERVE
        for node in ast.walk(tree_of(path))
        if isinstance(node, Function)
    }

    long = [f"{name}: {count} lines" for name, count in lines.items() if count > MAX_FUNCTION_LINES]
    assert not long, listed(long)


def test_a_job_is_short():
    lines = {name_of(path): len(path.read_text().splitlines()) for path in JOBS}

    long = [f"{name}: {count} lines" for name, count in lines.items() if count > MAX_JOB_LINES]
    assert not long, listed(long)


def test_everything_public_has_a_docstring():
    undocumented = [
        f"{name_of(path)} {name}"
        for path in PACKAGE + JOBS + SERVE
        for name, node in [("(the module)", tree_of(path)), *public_definitions(tree_of(path))]
        if ast.get_docstring(node) is None
    ]

    assert not undocumented, listed(undocumented)


def public_definitions(parent, prefix=""):
    """Yield name and node of public functions, classes and methods; inside a function all is private."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If | ast.Try):
            yield from public_definitions(node, prefix)


def test_no_module_has_a_catch_all_name():
    offenders = [name_of(path) for path in PACKAGE if CATCH_ALL_NAMES & {path.stem, path.parent.name}]

    assert not offenders, listed(offenders)
