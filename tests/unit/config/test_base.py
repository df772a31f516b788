"""Reading, merging and checking configuration trees: whatever is wrong comes out as one clear line."""

from typing import Annotated

import pytest
from pydantic import PositiveInt, ValidationError

from mats_ray.config.base import StrictConfig, Within, merge, override, read_yaml, shown, validate
from mats_ray.errors import ConfigError


class Bed(StrictConfig):
    width: PositiveInt = 1
    firm: bool = True
    filling: float = 0.5


class Room(StrictConfig):
    bed: Bed = Bed()
    guest: Bed | None = None
    name: str


def fault(tree):
    with pytest.raises(ConfigError) as caught:
        validate(Room, tree, where="hotel.yaml")
    return str(caught.value)


def refusal_of(path):
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    return str(caught.value)


class Lamp(StrictConfig):
    watts: Annotated[int, Within(1, 60)] = 5
    warmth: Annotated[float, Within(0.5, 2)] | None = None
    typed: Annotated[float, Within(1, 3, strict=False)] = 1


def test_bounds_are_inclusive_and_reported_together():
    assert Lamp(watts=60, warmth=0.5, typed="3").typed == 3
    for bad in (0, 61, 10**100, 1.5, "5", True, float("nan")):
        with pytest.raises(ValidationError, match=r"must be an integer from 1 to 60|should be a number"):
            Lamp(watts=bad)
    for bad in ({"warmth": 0.4}, {"warmth": "1"}, {"warmth": True}):
        with pytest.raises(ValidationError, match=r"must be a number from 0\.5 to 2"):
            Lamp(**bad)
    with pytest.raises(ValidationError, match="must be a number from 1 to 3"):
        Lamp(typed="nan")
    assert Lamp.model_json_schema()["properties"]["watts"]["maximum"] == 60


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, 10**9999, list(range(10**5)), {"a": "b" * 999}, "half \ud83d", b"x" * 999, 1e-320],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_quoted_in_a_few_characters_that_can_be_printed(value):
    assert len(shown(value).encode()) <= 60


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"name": "a", "bedd": 1}, "unknown key bedd = 1; allowed here: bed, guest, name"),
        ({"name": "a", "bed": {"wide": 2}}, "unknown key bed.wide = 2; allowed here: filling, firm, width"),
        ({"name": "a", "guest": {"x": 2}}, "unknown key guest.x = 2; allowed here: filling, firm, width"),
        ({}, "name is missing"),
        ({"name": 5}, "name = 5 is not allowed: input should be a valid string"),
        ({"name": "a", "bed": {"width": 0}}, "bed.width = 0 is not allowed: input should be greater than 0"),
        ({"name": "a", "bed": {"width": True}}, "bed.width = True is not allowed: input should be a number"),
        ({"name": "a", "bed": {"filling": False}}, "bed.filling = False is not allowed: input should be a"),
        (
            {"name": "a", "bed": {"filling": float("nan")}},
            "bed.filling = nan is not allowed: input should be",
        ),
        ({"name": "a", "bed": {"width": 0, "firm": 7}}, "input should be greater than 0 (and 1 more)"),
        ({"name": "x" * 99, "bed": "x" * 99}, "bed = 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
        ({"name": "a", "bed": "wide\nand soft"}, r"bed = 'wide\nand soft' is not allowed: input should be"),
    ],
)
def test_a_fault_is_one_line_with_key_value_and_what_is_allowed(tree, expected):
    message = fault(tree)

    assert message.startswith("hotel.yaml: ")
    assert expected in message
    assert "\n" not in message
    assert len(message) < 200


def test_values_never_change_after_loading():
    room = validate(Room, {"name": "a"}, where="")

    with pytest.raises(ValidationError, match="frozen"):
        room.name = "b"


def test_the_text_below_a_field_is_its_meaning():
    class Described(StrictConfig):
        width: int = 1
        """In metres."""

    assert Described.model_fields["width"].description == "In metres."


def test_a_tree_is_laid_over_another_mapping_by_mapping():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1, "e": {"f": 1}}

    merged = merge(base, {"a": {"c": [3]}, "d": {"x": 1}, "e": None, "g": 2})

    assert merged == {"a": {"b": 1, "c": [3]}, "d": {"x": 1}, "e": None, "g": 2}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 1, "e": {"f": 1}}


@pytest.mark.parametrize(
    ("assignment", "tree"),
    [
        ("a=1", {"a": 1}),
        ("a.b.c=x", {"a": {"b": {"c": "x"}}}),
        (" a.b = 2 ", {"a": {"b": 2}}),
        ("a=b=c", {"a": "b=c"}),
        ("a=[1, x]", {"a": [1, "x"]}),
        ("a={b: null}", {"a": {"b": None}}),
        ("a=s3://bucket/x", {"a": "s3://bucket/x"}),
        ("a=", {"a": None}),
        ("a=''", {"a": ""}),
    ],
)
def test_an_override_is_a_tree_with_a_yaml_value(assignment, tree):
    assert override(assignment) == tree


@pytest.mark.parametrize("assignment", ["a", "=1", "a..b=1", ".a=1", "a.=1", ""])
def test_an_override_without_key_or_value_is_refused(assignment):
    with pytest.raises(ConfigError) as caught:
        override(assignment)

    assert str(caught.value) == f"--set {assignment!r}: expected key=value, for example train.num_steps=100"


def test_an_override_that_is_no_yaml_is_refused():
    with pytest.raises(ConfigError, match=r"^--set 'a=\[1': the value is not YAML: .*expected ',' or ']'"):
        override("a=[1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "{path}: key 'a' occurs twice in one mapping (line 1)"),
        ("a:\n  b: 1\n  b: 2\n", "{path}: key 'b' occurs twice in one mapping (line 2)"),
        ("a: {b: {c: 1, c: 1}}", "{path}: key 'c' occurs twice in one mapping (line 1)"),
        ("- a\n", "{path} must hold a mapping of sections, holds list"),
        ("", "{path} must hold a mapping of sections, holds NoneType"),
        ("just words", "{path} must hold a mapping of sections, holds str"),
        ("a: [1\nb: 2", "{path} cannot be read as YAML: "),
        ("a: !!python/object/apply:os.getcwd []", "{path} cannot be read as YAML: could not determine a"),
        ("a: 1\n---\nb: 2", "{path} cannot be read as YAML: expected a single document"),
    ],
    ids=["twice", "nested", "flow", "list", "empty", "text", "unclosed", "python object", "two documents"],
)
def test_a_file_that_is_no_plain_mapping_is_refused_in_one_line(text, expected, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(text)

    message = refusal_of(path)

    assert message.startswith(expected.format(path=path))
    assert "\n" not in message


def test_a_missing_file_a_folder_and_a_binary_file_are_named(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")

    assert refusal_of(tmp_path / "gone.yaml") == f"no configuration file at {tmp_path / 'gone.yaml'}"
    assert refusal_of(tmp_path).startswith(f"{tmp_path} cannot be read as YAML: ")
    assert "binary.yaml cannot be read as YAML: 'utf-8' codec" in refusal_of(tmp_path / "binary.yaml")


@pytest.mark.parametrize(
    "tree", [{"name": "a", "x" * 10_000: 1}, {"name": "a", "bedd": "x" * 10_000}, {"name": ["x"] * 10_000}]
)
def test_a_fault_stays_one_line_of_bounded_length(tree):
    assert len(fault(tree)) < 700
    assert "\n" not in fault(tree)
