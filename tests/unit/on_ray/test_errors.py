"""Our own error is found inside Ray's, as an object or as text."""

import pytest
from ray.data._internal.util import _annotate_exception_with_retry_context
from ray.data.exceptions import omit_traceback_stdout
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayTaskError

from mats_ray.errors import AudioError, DataError
from mats_ray.on_ray.errors import OUT_OF_MEMORY, failure_reason, own_error

TRACEBACK = """ray::MapBatches(_read)() (pid=7, ip=10.0.0.1)
  File "x.py", line 3, in _read
mats_ray.errors.DataError: a.csv has no column text; its header is id, Text
"""


def in_a_task(cause):
    return RayTaskError("encode", "Traceback, line 7", cause).as_instanceof_cause()


@pytest.mark.parametrize("error", [TRACEBACK, RuntimeError(TRACEBACK)])
def test_an_error_is_found_in_the_text_of_a_remote_traceback(error):
    found = own_error(error)

    assert type(found) is DataError
    assert str(found) == failure_reason(error) == "a.csv has no column text; its header is id, Text"


def test_an_error_that_ray_keeps_as_an_object_comes_back_as_it_was():
    cause = AudioError("a.wav is empty", code="empty")

    assert own_error(in_a_task(cause)) is cause
    assert own_error(cause) is cause


def test_what_ray_data_appends_to_an_error_is_left_out():
    cause = AudioError("a.wav is empty", code="empty")
    noted = _annotate_exception_with_retry_context(
        cause,
        description="apply UDF transform",
        attempts=1,
        max_attempts=1,
        total_backoff_s=0,
        exception_str=str(cause),
    )
    assert str(noted) != "a.wav is empty"

    assert str(own_error(in_a_task(noted))) == "a.wav is empty"


def test_an_error_is_found_among_the_causes():
    error = RuntimeError("the group failed")
    error.__cause__ = in_a_task(DataError("no triplets"))

    assert str(own_error(error)) == failure_reason(error) == "no triplets"


def test_the_reason_is_ray_datas_error_and_not_the_marker_it_is_raised_from():
    @omit_traceback_stdout
    def execute():
        raise OutOfMemoryError("Task was killed due to memory")

    with pytest.raises(OutOfMemoryError) as raised:
        execute()

    assert type(raised.value.__cause__).__name__ == "SystemException"
    assert failure_reason(raised.value) == "Task was killed due to memory"


@pytest.mark.parametrize("kind", [OutOfMemoryError, RuntimeError])
def test_want_of_memory_is_one_line_of_ours(kind):
    text = """1 worker(s) were killed due to the node running low on memory.
Memory on the node was 22.4GB used / 23.4GB limit.

Refer to the documentation on how to address the out of memory issue: https://docs.ray.io/debug-memory.html.
Set max_restarts and max_task_retries to enable retry when the task crashes due to OOM."""
    error = RuntimeError("the group failed")
    error.__cause__ = kind(text)

    assert failure_reason(error) == OUT_OF_MEMORY


def test_a_text_without_a_code_makes_no_coded_error():
    assert own_error("mats_ray.errors.AnswerError: too long") is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("Traceback ...\nImportError: no torch\n\n", "ImportError: no torch"),
        (in_a_task(ValueError("several\nlines")), "lines"),
        (KeyError(), "KeyError"),
        ("", "no reason given"),
    ],
)
def test_another_error_has_a_reason_of_one_line(error, expected):
    assert own_error(error) is None
    assert failure_reason(error) == expected


def test_an_error_that_is_its_own_cause_has_a_reason():
    error = ActorUnavailableError("the actor is unavailable: connection refused", None)
    error.__cause__ = error

    assert own_error(error) is None
    assert "connection refused" in failure_reason(error)
