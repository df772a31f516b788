import pickle

import pytest

from mats_ray.errors import AnswerError, AudioError, ConfigError, EngineError
from mats_ray.serving.errors import RequestError
from mats_ray.serving.http.errors import problem_of, validation_error


def test_a_request_error_survives_pickling():
    error = pickle.loads(pickle.dumps(RequestError("no", code="overloaded", param="file")))

    assert (str(error), error.code, error.param) == ("no", "overloaded", "file")


def test_an_audio_error_with_a_new_code_is_still_the_senders_to_mend():
    problem = problem_of(AudioError("a.wav: odd", code="brand_new"))

    assert (problem.status, problem.type, problem.param) == (422, "invalid_request_error", "file")


@pytest.mark.parametrize(
    ("code", "status", "shown"),
    [
        ("prompt_too_long", 422, "invalid_field"),
        ("not_finite", 422, "not_finite"),
        ("answer_failed", 500, "answer_failed"),
    ],
)
def test_an_answer_error_gives_its_reason(code, status, shown):
    problem = problem_of(AnswerError("1100 tokens, the language model has 1024 positions", code=code))

    assert (problem.status, problem.code) == (status, shown)
    assert problem.message == "1100 tokens, the language model has 1024 positions"


@pytest.mark.parametrize(
    ("in_flight", "expected"), [(False, (503, "unavailable")), (True, (500, "replica_died"))]
)
def test_a_stopped_engine_of_this_process_is_worth_a_retry_unless_the_request_may_be_the_cause(
    in_flight, expected
):
    problem = problem_of(EngineError("the engine has stopped: SystemExit", in_flight=in_flight))

    assert (problem.status, problem.code) == expected
    assert "SystemExit" not in problem.message


def test_a_message_is_bounded():
    long = "x" * 9999
    for error in (RequestError(long, code="empty"), AudioError(long, code="empty"), ConfigError(long)):
        assert len(problem_of(error).message) == 1000


@pytest.mark.parametrize(
    ("loc", "kind", "context", "message", "param"),
    [
        (("a", 1, "b"), "missing", {}, "the field 'a[1].b' is missing or empty", "a"),
        (("a", 0), "int_type", {}, "a[0] = 5 cannot be used: should be odd", "a"),
        (("a", "some_union", 1, "c"), "x", {}, "a[1].c = None cannot be used: should be odd", "a"),
        ((), "x", {"field": "a"}, "a = [5, {}] cannot be used: should be odd", "a"),
        ((), "x", {}, "the body, {'a': [5, {}]}, cannot be used: should be odd", None),
    ],
)
def test_a_fault_is_one_line_with_path_value_and_reason(loc, kind, context, message, param):
    fault = {"loc": loc, "type": kind, "msg": "Value error, Should be odd", "ctx": context}

    error = validation_error([fault], {"a": [5, {}]})

    assert (str(error), error.param) == (message, param)


def test_an_unexpected_error_reveals_nothing():
    problem = problem_of(KeyError("/home/me/secret"))

    assert (problem.status, problem.type) == (500, "server_error")
    assert "secret" not in problem.message
