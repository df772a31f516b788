"""Strict configuration: frozen pydantic models, YAML files, ``--set a.b=c``; an error is one clear line."""

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic import ValidatorFunctionWrapHandler as Handler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from mats_ray.errors import ConfigError, abbreviated

Tree = dict[str, Any]
ModelT = TypeVar("ModelT", bound=BaseModel)


class StrictConfig(BaseModel):
    """Base of every section: unknown keys are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def numbers_are_not_booleans(cls, value: object, info: ValidationInfo) -> object:
        """Refuse ``true``, which pydantic would read as 1; in ``num_steps: yes`` it can only be a mistake."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and (annotation is int or annotation is float):
            raise PydanticCustomError("number_type", "Input should be a number")
        return value


@dataclass(frozen=True, slots=True)
class Within:
    """Inclusive bounds of a number, ``Annotated[int, Within(1, 1024)]``; an error names both in one line.

    Args:
        low: Least value.
        high: Greatest value.
        strict: Refuse text that reads as a number; False for form fields, which are all text.
    """

    low: float
    high: float
    strict: bool = True

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check type and bounds as pydantic does, with both bounds in one message."""
        bounds = Field(ge=self.low, le=self.high, strict=self.strict)
        kind = "an integer" if source is int else "a number"
        message = f"must be {kind} from {self.low} to {self.high}"

        def check(value: Any, inner: Handler) -> Any:
            try:
                return inner(value)
            except ValidationError:
                raise PydanticCustomError("out_of_range", "{message}", {"message": message}) from None

        return core_schema.no_info_wrap_validator_function(check, handler(Annotated[source, bounds]))


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses two equal keys in one mapping, of which PyYAML would keep the last."""


def _mapping_without_duplicates(loader: yaml.SafeLoader, node: yaml.MappingNode) -> Tree:
    keys = [cast("str", loader.construct_object(key)) for key, _ in node.value]  # pyright: ignore[reportUnknownMemberType]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"key {key!r} occurs twice in one mapping (line {node.start_mark.line + 1})")
    return cast("Tree", loader.construct_mapping(node, deep=True))


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)


def read_yaml(path: Path) -> Tree:
    """Read one YAML mapping.

    Raises:
        ConfigError: The file is absent, is not YAML, or does not hold a mapping.
    """
    try:
        # _UniqueKeyLoader is a SafeLoader, so no object but plain data can come out
        tree: object = yaml.load(path.read_text("utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506
    except FileNotFoundError:
        raise ConfigError(f"no configuration file at {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {_one_line(str(error))}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping of sections, holds {type(tree).__name__}")
    return cast("Tree", tree)


def merge(base: Tree, over: Mapping[str, Any]) -> Tree:
    """Lay ``over`` onto ``base``, mapping by mapping; lists and scalars are replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        old: object = merged.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            merged[key] = merge(cast("Tree", old), cast("Tree", value))
        else:
            merged[key] = value
    return merged


def override(assignment: str) -> Tree:
    """Turn ``a.b=c`` into ``{"a": {"b": c}}``; the value is read as YAML.

    Raises:
        ConfigError: No ``=``, an empty key, or a value that is not YAML.
    """
    key, equals, text = assignment.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {assignment!r}: expected key=value, for example train.num_steps=100")
    try:
        tree: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {assignment!r}: the value is not YAML: {_one_line(str(error))}") from error
    for part in reversed(parts):
        tree = {part: tree}
    return cast("Tree", tree)


def validate(kind: type[ModelT], tree: Tree, *, where: str) -> ModelT:
    """Build ``kind`` from a plain tree.

    Raises:
        ConfigError: One line naming the key, its value and what is allowed.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{where}: {explain(kind, error)}") from None


def assemble(
    kind: type[ModelT], tree: Tree, overrides: Sequence[str], *, sources: Sequence[str] = ()
) -> ModelT:
    """Lay ``a.b=c`` overrides onto a tree and build ``kind``; errors name sources and overrides.

    Raises:
        ConfigError: One line naming the key, its value and what is allowed.
    """
    for assignment in overrides:
        tree = merge(tree, override(assignment))
    return validate(kind, tree, where=abbreviated([*sources, *(f"--set {one}" for one in overrides)], most=8))


def explain(kind: type[BaseModel], error: ValidationError) -> str:
    """Describe the first error of a validation in one line, with the number of further ones."""
    errors = error.errors(include_url=False)
    first = errors[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(_fields_at(kind, first["loc"][:-1]))
        message = f"unknown key {key} = {shown(first['input'])}; allowed here: {allowed}"
    elif first["type"] == "missing":
        message = f"{key} is missing"
    elif first["type"] == "value_error":
        message = (f"{key}: " if key else "") + first["msg"].removeprefix("Value error, ")
    else:
        message = f"{key} = {shown(first['input'])} is not allowed: {_lower(first['msg'])}"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return abbreviated([_one_line(message)], width=600) + more


def _fields_at(kind: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Follow a location through nested models, and lists of them, and list the keys allowed there."""
    for part in loc:
        if isinstance(part, int):  # an item of a list
            continue
        inner = list(_models_in(kind.model_fields[part].annotation))
        if inner:
            kind = inner[0]
    return sorted(kind.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models an annotation names: ``Model | None``, ``list[Model]``, ``Annotated[Model, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for one in get_args(annotation):
        yield from _models_in(one)


def shown(value: object) -> str:
    """Quote a value in an error: at most 60 characters, however large the value is."""
    if isinstance(value, int) and value.bit_length() > 200:  # Python refuses to write the longest at all
        return "an integer of more than 60 digits"
    text = _BOUNDED.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_BOUNDED = reprlib.Repr()
_BOUNDED.maxstring = _BOUNDED.maxother = 200


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _one_line(text: str) -> str:
    return " ".join(text.split())
