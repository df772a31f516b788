"""Markdown of reference pages: tables whose cells may hold any text."""

import html
import re
from collections.abc import Iterable, Sequence

_CODE = re.compile(r"``([^`]+)``|`([^`]+)`")


def code(text: str) -> str:
    """Return text as code, whatever it holds: a bar would end a cell, also between backquotes."""
    return f"<code>{_cell(text)}</code>"


def prose(text: str) -> str:
    """Return a docstring or help text as the content of a cell; what is between backquotes becomes code."""
    whole, parts, end = " ".join(text.split()), [], 0
    for match in _CODE.finditer(whole):
        parts += [_cell(whole[end : match.start()]), code(match[1] or match[2])]
        end = match.end()
    return "".join([*parts, _cell(whole[end:])])


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that ``code`` or ``prose`` made."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    escaped = html.escape(text, quote=False)
    for character in "|*_[]\\`":
        escaped = escaped.replace(character, f"&#{ord(character)};")
    return escaped
