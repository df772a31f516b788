"""The page of all keys of a configuration, from the classes that check them.

Types and bounds are those of the classes' JSON schema, meanings the docstrings below the fields.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from docs.site.markup import code, prose, table
from mats_ray.config import RunConfig
from mats_ray.config.evaluate import EvaluateConfig

HEAD = """\
# Configuration

Made from the classes of `mats_ray/config`. A file holds only what it changes; later files win over earlier
ones, then `--set section.key=value`. An unknown key, a value out of bounds or a key that occurs twice is one
line that names it, and exit code 2. `mats config show` prints what a configuration resolves to.

"""
ROOTS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("A run", "", RunConfig),
    ("An evaluation: `mats evaluate --config`", "evaluate", EvaluateConfig),
)
"""Title, name of the anchors, and class of each kind of file."""
Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a section."""

    path: str
    """As ``--set`` takes it; ``[]`` behind a list of sections."""
    allowed: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Section:
    """The keys of one mapping."""

    path: str
    meaning: str
    keys: tuple[Key, ...]


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for title, anchor, kind in ROOTS:
        parts.append(f"## {title}\n\n")
        for section in sections(kind):
            if section.path:
                parts.append(f"### {code(section.path)} {{ #{_anchor(anchor, section.path)} }}\n\n")
            parts.append(f"{prose(section.meaning)}\n\n")
            rows = [
                (code(one.path), prose(one.allowed), code(one.default) if one.default else "", one.meaning)
                for one in section.keys
            ]
            parts.append(table(("key", "value", "default", "meaning"), rows) + "\n")
    return "".join(parts)


def sections(kind: type[BaseModel]) -> Iterator[Section]:
    """Yield the sections of a class in the order of its fields, each before those inside it."""
    schema = kind.model_json_schema()
    yield from _sections(schema, schema.get("$defs", {}), "", None)


def _sections(schema: Schema, defs: Schema, path: str, given: Any) -> Iterator[Section]:
    """Walk a schema; ``given`` is the default of the whole section, which wins over those of its keys."""
    keys, inner = [], []
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        default = given[name] if isinstance(given, dict) and name in given else field.get("default")
        where = f"{path}.{name}" if path else name
        below = list(_objects(field, defs))
        inner += [(suffix, one, where, default) for suffix, one in below]
        shown = "required" if name in required else "" if isinstance(default, dict) else json.dumps(default)
        keys.append(Key(where, allowed(field, defs), shown, prose(field.get("description", ""))))
    yield Section(path, schema.get("description", ""), tuple(keys))
    for suffix, one, where, default in inner:
        yield from _sections(one, defs, f"{where}{suffix}", default)


def _objects(schema: Schema, defs: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield the sections that a value may be, ``[]`` before one that is an item of a list."""
    if "$ref" in schema:
        target = _resolved(schema, defs)
        if "properties" in target:
            yield "", target
    for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _objects(one, defs)
    if isinstance(schema.get("items"), dict):
        yield from (("[]" + suffix, one) for suffix, one in _objects(schema["items"], defs))


def _resolved(schema: Schema, defs: Schema) -> Schema:
    return defs[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def allowed(schema: Schema, defs: Schema) -> str:
    """Say in words what values a schema admits.

    Raises:
        ValueError: The schema uses something that this function has no words for.
    """
    schema = _resolved(schema, defs)
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(allowed(one, defs) for one in choices))
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema.get("enum", [schema.get("const")]))
    words = _WORDS.get(schema.get("type", ""))
    if words is None:
        raise ValueError(f"there are no words for the schema {schema}")
    return words(schema, defs)


def _number(schema: Schema, _: Schema) -> str:
    parts = ["integer" if schema["type"] == "integer" else "number"]
    for key, word in (
        ("exclusiveMinimum", "above"),
        ("minimum", "from"),
        ("exclusiveMaximum", "below"),
        ("maximum", "to"),
        ("multipleOf", "in multiples of"),
    ):
        if key in schema:
            parts.append(f"{word} {_digits(schema[key])}")
    return re.sub(r"^(\w+) above 0(?= |$)", r"positive \1", " ".join(parts))


def _digits(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"


def _text(schema: Schema, _: Schema) -> str:
    if "pattern" in schema:
        return f"text that matches `{schema['pattern']}`"
    return "text, not empty" if schema.get("minLength") else "text"


def _list(schema: Schema, defs: Schema) -> str:
    if "prefixItems" in schema:
        return f"[{', '.join(allowed(one, defs) for one in schema['prefixItems'])}]"
    return f"list of {allowed(schema['items'], defs)}"


def _mapping(schema: Schema, defs: Schema) -> str:
    if "properties" in schema:
        return "keys below"
    values = schema.get("additionalProperties") or next(iter(schema["patternProperties"].values()))
    return f"mapping of names to {allowed(values, defs)}"


_WORDS = {
    "integer": _number,
    "number": _number,
    "string": _text,
    "boolean": lambda *_: "`true`, `false`",
    "null": lambda *_: "`null`",
    "array": _list,
    "object": _mapping,
}


def _anchor(prefix: str, path: str) -> str:
    return "-".join(filter(None, [prefix, path])).replace(".", "-").replace("[]", "").replace("_", "-")
