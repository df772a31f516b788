"""The tree that mkdocs reads: the pages where they lie, the files they link to, the reference."""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from docs.site import (
    command_reference,
    configuration_reference,
    data_reference,
    metrics_reference,
    python_reference,
)

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("*.md", "docs/*.md", "benchmarks/*.md", "examples/*/README.md")
"""Patterns of the pages, below the root."""
REFERENCE: Mapping[str, Callable[[], str]] = {
    "docs/reference/commands.md": command_reference.page,
    "docs/reference/configuration.md": configuration_reference.page,
    "docs/reference/python.md": python_reference.page,
    "docs/reference/metrics.md": metrics_reference.page,
    "docs/reference/data.md": data_reference.page,
}
"""Pages that are made from the code."""
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def pages(root: Path) -> list[Path]:
    """Return the pages of the repository, sorted."""
    return sorted(path for pattern in PAGES for path in root.glob(pattern))


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Yield path and anchor, either may be empty, of each link of a page that stays in the repository."""
    for target in _LINK.findall(_CODE.sub("", page.read_text("utf-8"))):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield path, anchor


def assemble(root: Path, folder: Path) -> None:
    """Make ``folder`` anew from the pages of ``root``.

    Raises:
        FileNotFoundError: A page links to a file that is not there.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for page in pages(root):
        _copy(page, root, folder)
        for path, _ in links(page):
            target = (page.parent / path).resolve()
            if target.suffix != ".md" and not target.is_dir():
                _copy(target, root, folder)
    for name, write in REFERENCE.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(write(), "utf-8")


def _copy(path: Path, root: Path, folder: Path) -> None:
    target = folder / path.relative_to(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
