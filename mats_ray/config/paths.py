"""Marks of the texts of a configuration that are paths, and a walk over them; pydantic keeps the marks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class PathMark:
    """What a path leads to.

    Args:
        kind: ``storage``: a file or folder on a disk or in an object store. ``pretrained``: a part that may
            also be an id of a hub, or a file of a Python package.
    """

    kind: Literal["storage", "pretrained"]


StoragePath = Annotated[str, PathMark("storage")]
"""File, folder, or URL of an object store."""
PretrainedPath = Annotated[str, PathMark("pretrained")]
"""Directory or file of a pretrained part, or its id on a hub."""


def paths_of(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, str, PathMark]]:
    """Yield dotted key, value and mark of every path in a section that is not None.

    Args:
        section: A configuration, or one section of it.
        prefix: Key of the section.
    """
    for name, field in type(section).model_fields.items():
        marks = [one for one in field.metadata if isinstance(one, PathMark)]
        mark = next(iter([*marks, *_marks_in(field.annotation)]), None)
        yield from _below(getattr(section, name), f"{prefix}.{name}" if prefix else name, mark)


def _below(value: object, key: str, mark: PathMark | None) -> Iterator[tuple[str, str, PathMark]]:
    if isinstance(value, BaseModel):
        yield from paths_of(value, key)
    elif isinstance(value, str) and mark is not None:
        yield key, value, mark
    elif isinstance(value, dict):
        for name, one in cast("dict[str, object]", value).items():
            yield from _below(one, f"{key}.{name}", mark)
    elif isinstance(value, list | tuple):
        for index, one in enumerate(cast("Sequence[object]", value)):
            yield from _below(one, f"{key}.{index}", mark)


def _marks_in(annotation: Any) -> Iterator[PathMark]:
    for one in get_args(annotation):
        if isinstance(one, PathMark):
            yield one
        else:
            yield from _marks_in(one)
