"""The page of the Python API: every name in an ``__all__``, by mkdocstrings, which reads the sources."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "mats_ray"
HEAD = """\
# Python

Every name in an `__all__`: what is not here may change at any time. Made from the sources. Importing
`mats_ray` loads neither torch nor Ray; a name brings what it needs when it is first used.

"""


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for package, names in public_names().items():
        parts.append(f"## {package} {{ #{package.replace('.', '-')} }}\n\n")
        for name, target in names.items():
            parts.append(
                f"::: {target}\n    options:\n      heading: {package}.{name}\n      toc_label: {name}\n\n"
            )
    return "".join(parts)


def public_names() -> dict[str, dict[str, str]]:
    """Return, for each package with an ``__all__``, its public names and where each is defined."""
    found = {}
    for path in sorted(PACKAGE.rglob("__init__.py")):
        tree = ast.parse(path.read_text("utf-8"))
        if names := list(_exported(tree)):
            places = _imports(tree)
            package = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
            found[package] = {
                name: _definition(name, places[name]) for name in names if name != "__version__"
            }
    return found


def _exported(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__":
            yield from ast.literal_eval(node.value)


def _imports(tree: ast.Module) -> dict[str, str]:
    """Return the module that each name is imported from, also where only type checkers import it."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in nodes for alias in node.names}


def _definition(name: str, module: str) -> str:
    """Follow a name through modules that only pass it on, and return its full name where it is defined."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    places = _imports(ast.parse(source.read_text("utf-8")))
    return _definition(name, places[name]) if name in places else f"{module}.{name}"
