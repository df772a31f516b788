import pickle
import traceback
import weakref

import pytest

from mats_ray import errors
from mats_ray.errors import (
    AudioError,
    CodedError,
    ConfigError,
    EngineError,
    MATSError,
    abbreviated,
    free_frames,
)

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MATSError)]


def make(kind):
    return (
        kind("clip.wav is empty", code="empty") if issubclass(kind, CodedError) else kind("clip.wav is empty")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_of_an_error_is_its_message(kind):
    assert str(make(kind)) == "clip.wav is empty"


@pytest.mark.parametrize("kind", KINDS)
def test_bad_usage_exits_with_2_and_everything_else_with_1(kind):
    assert make(kind).exit_code == (2 if issubclass(kind, ConfigError) else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_arrives_whole_from_another_process(kind):
    sent = make(kind)

    arrived = pickle.loads(pickle.dumps(sent))

    assert type(arrived) is kind
    assert str(arrived) == str(sent)
    assert vars(arrived) == vars(sent)


def test_an_audio_error_requires_a_code():
    with pytest.raises(TypeError, match="code"):
        AudioError("clip.wav is empty")


def test_an_engine_error_keeps_whether_the_request_was_in_flight():
    sent = EngineError("it stopped", in_flight=True)

    assert pickle.loads(pickle.dumps(sent)).in_flight


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        ("ab", "a, b"),
        (range(5), "0, 1, 2, 3, 4"),
        (range(6), "0, 1, 2, 3, 4 and 1 more"),
        (range(199), "0, 1, 2, 3, 4 and 194 more"),
        (["x" * 101], "x" * 100 + "..."),
        (["layer\n.weight"], "layer .weight"),
    ],
)
def test_a_list_of_names_is_bounded(names, text):
    assert abbreviated(names) == text


class Held:
    """What a variable of a failed call holds."""


@pytest.mark.parametrize("cause", [None, "explicit", "implicit"])
def test_an_error_that_is_kept_holds_no_variable_of_the_call_that_failed(cause):
    held = []

    def inner():
        variable = Held()
        held.append(weakref.ref(variable))
        raise ValueError("inner")

    def outer():
        variable = Held()
        held.append(weakref.ref(variable))
        try:
            inner()
        except ValueError as error:
            if cause == "explicit":
                raise MATSError("outer") from error
            if cause == "implicit":
                raise MATSError("outer")  # noqa: B904
            raise

    def handled():
        variable = Held()
        held.append(weakref.ref(variable))
        try:
            outer()
        except Exception as error:  # noqa: BLE001
            return free_frames(error)

    error = handled()

    assert [one() for one in held] == [None] * 3
    text = "".join(traceback.format_exception(error))
    assert "in outer" in text
    assert "in inner" in text


def test_an_error_that_causes_itself_is_freed():
    try:
        raise ValueError("round")
    except ValueError as raised:
        raised.__cause__ = error = raised

    assert free_frames(error).__traceback__ is None
