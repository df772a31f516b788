"""Cells and fields of annotation files as values: missing ones, booleans, lists of strings, splits.

Spreadsheets, pandas, R and JSON write the same value in different ways. A value is read by one of these
functions or not at all: a guess could let a test clip into training.
"""

import ast
import io
import re
import tokenize
from typing import Any

MISSING = frozenset(
    {
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
        *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
        *("NAN", "Null", "NaT"),
    }
)
"""Spellings of "no value": pandas' default ``na_values``, and three spellings of other writers. Lower-case
``none`` is an answer ("How many dogs bark?")."""

_MISSING_TEXTS = frozenset(word.casefold() for word in MISSING)
_TRUE = frozenset({"true", "t", "yes", "y", "1", "1.0"})
_FALSE = frozenset({"false", "f", "no", "n", "0", "0.0"})
_OPEN, _CLOSE = "[(", "])"
_SKIPPED = frozenset({tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER, tokenize.INDENT, tokenize.DEDENT})
_TEST_FOLDERS = frozenset({"test", "testing", "eval", "evaluation"})
_VALIDATION_FOLDERS = frozenset({"val", "valid", "validation"})
_WORDS = re.compile(r"[^a-z]+")


def is_missing_text(text: str) -> bool:
    """Whether a caption, question or label is a word for "no value", in any case, or empty."""
    return text.strip().casefold() in _MISSING_TEXTS


def text_or_missing(value: Any) -> str:
    """Return a field of a JSON record that should be a text, stripped; empty for a missing or other value."""
    text = value.strip() if isinstance(value, str) else ""
    return "" if text in MISSING else text


def boolean(cell: str) -> bool | None:
    """Read a boolean as Python, JSON, Excel, R or C write it; None: the cell holds something else."""
    word = cell.strip().casefold()
    return True if word in _TRUE else False if word in _FALSE else None


def string_list(cell: str) -> tuple[str, ...] | None:
    """Read a list of strings as Python, JSON or numpy print it; None: the cell is not such a list, or cut.

    numpy prints no commas, and Python's parser would join neighbouring literals into one string. So the
    tokens are read: string literals with a comma between each two, or with none between any.
    """
    try:
        tokens = [
            one for one in tokenize.generate_tokens(io.StringIO(cell).readline) if one.type not in _SKIPPED
        ]
    except (tokenize.TokenError, SyntaxError, ValueError):
        return None
    if len(tokens) < 3 or tokens[0].string not in _OPEN or tokens[-1].string not in _CLOSE:
        return None
    inner = tokens[1:-1]
    with_commas = any(one.string == "," for one in inner)
    if inner[-1].string == ",":
        inner = inner[:-1]
    literals, commas = (inner[::2], inner[1::2]) if with_commas else (inner, [])
    if any(one.string != "," for one in commas) or any(one.type != tokenize.STRING for one in literals):
        return None
    found = tuple(_literal(one.string) for one in literals)
    return None if any(one is None or is_missing_text(one) for one in found) else found  # pyright: ignore[reportReturnType]


def _literal(token: str) -> str | None:
    try:
        value = ast.literal_eval(token)
    except (ValueError, SyntaxError):
        return None
    return value if isinstance(value, str) else None


def split_of_folders(path: str) -> str:
    """Return the split that a path's folders name (``nsynth-test/``, ``Eval/``); empty: none does."""
    words = {word for folder in path.split("/")[:-1] for word in _WORDS.split(folder.casefold())}
    return "test" if words & _TEST_FOLDERS else "val" if words & _VALIDATION_FOLDERS else ""
