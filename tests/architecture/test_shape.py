"""Small files, small functions, thin jobs, a sentence for everything public, no drawer for odds and ends."""

import ast

from tests.architecture.source import JOBS, PACKAGE, SERVE, Definition, Function, listed, name_of, tree_of

MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_JOB_LINES = 400, 40, 30
DRAWERS = {"utils", "util", "helpers", "helper", "misc", "common"}


def test_a_file_fits_in_the_head():
    lines = {name_of(path): len(path.read_text().splitlines()) for path in PACKAGE + SERVE}

    long = [f"{name}: {count} lines" for name, count in lines.items() if count > MAX_FILE_LINES]
    assert not long, listed(long)


def test_a_function_fits_on_a_screen():
    lines = {
        f"{name_of(path)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in PACKAGE + JOBS + SERVE
        for node in ast.walk(tree_of(path))
        if isinstance(node, Function)
    }

    long = [f"{name}: {count} lines" for name, count in lines.items() if count > MAX_FUNCTION_LINES]
    assert not long, listed(long)


def test_a_job_is_a_sentence():
    lines = {name_of(path): len(path.read_text().splitlines()) for path in JOBS}

    long = [f"{name}: {count} lines" for name, count in lines.items() if count > MAX_JOB_LINES]
    assert not long, listed(long)


def test_everything_public_says_what_it_is():
    silent = [
        f"{name_of(path)} {name}"
        for path in PACKAGE + JOBS + SERVE
        for name, node in [("(the module)", tree_of(path)), *public_definitions(tree_of(path))]
        if ast.get_docstring(node) is None
    ]

    assert not silent, listed(silent)


def public_definitions(parent, prefix=""):
    """Yield name and node of public functions, classes and methods; inside a function all is private."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If | ast.Try):
            yield from public_definitions(node, prefix)


def test_no_module_is_a_drawer_for_odds_and_ends():
    drawers = [name_of(path) for path in PACKAGE if DRAWERS & {path.stem, path.parent.name}]

    assert not drawers, listed(drawers)
