"""Pieces of HTML. What came from outside passes through ``text`` on its way in, or is a number."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

MOST_CHARACTERS = 600
"""Of one text; the files beside the page hold all of it."""


def style_sheet() -> str:
    """Read the style that reports share."""
    return resources.files("mats_ray.evaluate.report").joinpath("style.css").read_text("utf-8")


def text(value: object, *, most: int = MOST_CHARACTERS) -> str:
    """Escape a text for elements and attributes, cut to a length."""
    whole = str(value)
    return escape(whole if len(whole) <= most else f"{whole[:most].rstrip()} ...")


def number(value: float | None) -> str:
    """Write a measured number; a dash where there is none."""
    if value is None:
        return "&ndash;"
    return f"{value:.3f}" if math.isfinite(value) else "not finite"


def published(value: float | None) -> str:
    """Write a published number with the digits it has, at least two behind the point; a dash for none."""
    if value is None:
        return "&ndash;"
    digits = f"{value:g}"
    return digits if len(digits.partition(".")[2]) > 2 else f"{value:.2f}"


def count(value: int) -> str:
    """Write a number of things."""
    return f"{value:,}"


def bar(share: float) -> str:
    """Draw a share of 0 to 1; the number stands beside it, so a reader of the text needs no bar."""
    width = min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0
    return f'<div class="bar" aria-hidden="true" style="width:{100 * width:.3g}%"></div>'


def mark(*, good: bool, words: tuple[str, str] = ("right", "wrong")) -> str:
    """Write a verdict by sign, word and colour."""
    sign, style, word = ("&#10003;", "good", words[0]) if good else ("&#10007;", "bad", words[1])
    return f'<span class="mark {style}">{sign}&nbsp;{word}</span>'


def table(head: Sequence[str], rows: Iterable[Iterable[str]], *, name: str, style: str = "") -> str:
    """Lay out cells that are HTML already; the first of a row heads it.

    Args:
        head: Headings of the columns.
        rows: Cells.
        name: What a screen reader calls the table, as text: it scrolls sideways where it is too wide.
        style: Classes.
    """
    columns = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = ""
    for first, *others in rows:
        body += f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>\n'
    return scrolling(
        f'<table class="{style}"><thead><tr>{columns}</tr></thead>\n<tbody>{body}</tbody></table>', name=name
    )


def scrolling(html: str, *, name: str) -> str:
    """Let something wide scroll by itself, by keyboard too."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{text(name)}">{html}</div>\n'


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """List terms and what they mean, both HTML already; nothing for none."""
    items = "".join(f"<dt>{term}</dt><dd>{meaning}</dd>" for term, meaning in pairs)
    return f"<dl>{items}</dl>\n" if items else ""


def items(texts: Iterable[str]) -> str:
    """List entries that are HTML already; nothing for none."""
    entries = "".join(f"<li>{one}</li>" for one in texts)
    return f"<ul>{entries}</ul>\n" if entries else ""
