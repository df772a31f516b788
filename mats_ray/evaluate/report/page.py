"""The page of an evaluation folder: a summary, where its numbers come from, a section for each benchmark."""

import re
from collections.abc import Mapping
from contextlib import suppress
from importlib import resources
from string import Template

from mats_ray.errors import DataError, MissingError
from mats_ray.evaluate.log import SAMPLES, SCORES
from mats_ray.evaluate.report.markup import style_sheet, text
from mats_ray.evaluate.report.samples import read_shown
from mats_ray.evaluate.report.scores import read_scores
from mats_ray.evaluate.report.section import EXTENTS, BenchmarkResult, section_html
from mats_ray.evaluate.report.summary import provenance_html, summary_html
from mats_ray.storage import list_files, name_of, write_bytes

REPORT = "report.html"
SECTIONS_BYTES = 1_500_000
"""Of all sections together; the more benchmarks there are, the less is shown of each."""


def write_report(folder: str) -> str:
    """Write the page of all benchmarks that have scores, and return its path.

    Args:
        folder: Local or remote; results of a benchmark are in a folder of its own there. Local audio is
            linked from the page, not copied.

    Raises:
        DataError: There are no scores, or a file is not what it should be.
        StorageError: The folder cannot be read or written.
    """
    folder = folder.rstrip("/") or "/"
    results = {f"benchmark-{number}": one for number, one in enumerate(_read_results(folder), start=1)}
    scores_of = {anchor: one.scores for anchor, one in results.items()}
    template = resources.files("mats_ray.evaluate.report").joinpath("page.html").read_text("utf-8")
    html = Template(template).substitute(
        style=style_sheet(),
        title=text(f"Evaluation: {name_of(folder)}"),
        summary=summary_html(scores_of),
        provenance=provenance_html(scores_of.values()),
        sections=_sections(results, folder),
    )
    path = f"{folder}/{REPORT}"
    write_bytes(path, html.encode("utf-8", "replace"))  # JSON can hold halves of characters
    return path


def _read_results(folder: str) -> list[BenchmarkResult]:
    """Read what is there, in the order of the titles."""
    pattern = re.compile(rf"[^/]+/{re.escape(SCORES)}")
    paths = [file.path for file in list_files(folder) if pattern.fullmatch(file.name)]
    if not paths:
        raise DataError(f"{folder} holds no results: no <benchmark>/{SCORES}")
    results = [_read_result(path.removesuffix(f"/{SCORES}")) for path in sorted(paths)]
    return sorted(results, key=lambda one: one.scores.title.casefold())


def _read_result(folder: str) -> BenchmarkResult:
    shown = None
    with suppress(MissingError):
        shown = read_shown(f"{folder}/{SAMPLES}")
    return BenchmarkResult(scores=read_scores(f"{folder}/{SCORES}"), shown=shown)


def _sections(results: Mapping[str, BenchmarkResult], folder: str) -> str:
    """Show each benchmark as fully as its share of the page allows; what one leaves is for those after it."""
    sections, left = list[str](), SECTIONS_BYTES
    for number, (anchor, result) in enumerate(results.items()):
        share = left // (len(results) - number)
        section = ""
        for extent in EXTENTS:
            section = section_html(result, folder, anchor=anchor, extent=extent, is_only=len(results) == 1)
            if len(section.encode("utf-8", "replace")) <= share:
                break
        sections.append(section)
        left -= len(section.encode("utf-8", "replace"))
    return "".join(sections)
