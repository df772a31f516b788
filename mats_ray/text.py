"""Text where it enters: requests, manifests, annotation files. Validation of Unicode, names of columns.

Bytes of another encoding are read as lone surrogates, and JSON escapes may hold half a surrogate pair;
Parquet, SQLite and tokenizers refuse both with an error of their own, in the middle of the work.
"""

from typing import Any

from mats_ray.errors import ConfigError


def is_valid_unicode(value: Any) -> bool:
    """Whether every string in a value, and in the lists and mappings it holds, can be written as UTF-8."""
    if isinstance(value, str):
        return value.isascii() or _encodes(value)
    if isinstance(value, dict):
        return all(is_valid_unicode(key) and is_valid_unicode(one) for key, one in value.items())
    return all(map(is_valid_unicode, value)) if isinstance(value, list | tuple) else True


def column_name(name: str) -> str:
    """Return a column's name for look-up: without case, the spaces around it and a byte order mark."""
    return name.strip(" \t\r\n\ufeff").casefold()


def check_unicode(text: str, what: str) -> None:
    """Refuse a text that holds half of a surrogate pair.

    Raises:
        ConfigError: Names ``what`` and shows the text, escaped.
    """
    if not is_valid_unicode(text):
        raise ConfigError(f"{what} is not valid Unicode (half of a surrogate pair): {text[:80]!a}")


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
