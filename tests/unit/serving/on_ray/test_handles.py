"""Calls to replicas: repeated after a death, ended in time, cancelled with their caller; no cluster."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from mats_ray.config.answer import AnswerOptions
from mats_ray.errors import AnswerError, AudioError, EngineError
from mats_ray.serving.errors import RequestError
from mats_ray.serving.on_ray import handles
from mats_ray.serving.on_ray.handles import AnswererHandle, EncoderHandle
from mats_ray.serving.types import AnswerDelta, AnswerResult, Embedding, ModelCard
from mats_ray.types import Answer, AudioClip

REQUEST = (Embedding(np.zeros(2, np.float32)), "?", AnswerOptions())
OLD, NEW = (ModelCard(id=name, created=0, version=name) for name in ("old", "new"))
RESULT = AnswerResult(answer=Answer(text="a dog barks", num_tokens=3, finish_reason="stop"), model=OLD)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(handles, "_FIRST_PAUSE_SECONDS", 0.0)


class Handle:
    """A deployment handle whose calls end as planned, one after the other."""

    def __init__(self, *endings):
        self.endings = list(endings)
        self.calls = []
        self.encode = self.answer = self.describe = self.stream = self

    def options(self, *, _by_reference=None, stream=False):
        if _by_reference is not None:
            self.by_reference = _by_reference
        return self

    def remote(self, *args):
        self.calls.append(Call(self.endings.pop(0)))
        return self.calls[-1]


class Call:
    """A call that gives a result, raises, or streams a list of both."""

    def __init__(self, ending):
        self._ending = ending
        self.cancelled = False

    def cancel(self):
        self.cancelled = True

    def __await__(self):
        if isinstance(self._ending, BaseException):
            raise self._ending
        return self._ending
        yield

    async def __aiter__(self):
        for item in self._ending:
            if isinstance(item, BaseException):
                raise item
            yield item


def encode(*endings, **options):
    return asyncio.run(EncoderHandle(Handle(*endings), **options).encode(clip()))


def clip(samples=1):
    return AudioClip(samples=np.zeros(samples, np.float32), sample_rate=8000, name="a.wav")


def stream(handle, **options):
    """Return the texts of a stream, then its result."""

    async def collect():
        events = AnswererHandle(handle, **options).stream(*REQUEST)
        return [event.text if isinstance(event, AnswerDelta) else event async for event in events]

    return asyncio.run(collect())


def deltas(*texts, model=OLD):
    return [AnswerDelta(text, model) for text in texts]


def task_error(cause):
    return RayTaskError("encode", "Traceback, line 7", cause).as_instanceof_cause()


def test_a_result_comes_through():
    assert asyncio.run(AnswererHandle(Handle(RESULT)).answer(*REQUEST)) is RESULT


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AioRpcError(StatusCode.INTERNAL, Metadata(), Metadata(), "reset"), "unavailable"),
        (RuntimeError("Unexpected error (StatusCode.UNAVAILABLE): Socket closed."), "unavailable"),
        (BackPressureError(5, 5), "overloaded"),
        (ActorDiedError(), "unavailable"),
        (DeploymentUnavailableError("Encoder"), "unavailable"),
    ],
    ids=["broken connection", "connection never made", "full queue", "dead replica", "failed deployment"],
)
def test_an_error_of_ray_becomes_one_for_clients(error, code):
    with pytest.raises(RequestError) as caught:
        encode(error)

    assert caught.value.code == code


def test_an_error_of_ours_arrives_as_itself_and_is_not_retried():
    with pytest.raises(AudioError) as caught:
        encode(task_error(AudioError("a.wav: odd", code="empty")), retry_seconds=60)

    assert type(caught.value) is AudioError
    assert str(caught.value) == "a.wav: odd"


def test_a_prompt_that_is_too_long_arrives_with_its_code():
    with pytest.raises(AnswerError) as caught:
        encode(task_error(AnswerError("7 tokens", code="prompt_too_long")), retry_seconds=60)

    assert caught.value.code == "prompt_too_long"


def test_an_unexpected_error_keeps_its_remote_traceback_for_the_log():
    with pytest.raises(RayTaskError, match="line 7"):
        encode(task_error(ValueError("odd")))


DEATHS = [
    ActorDiedError(),
    ActorUnavailableError("gone", b"x" * 16),
    AioRpcError(StatusCode.INTERNAL, Metadata(), Metadata(), "reset"),
    EngineError("the engine has stopped", in_flight=True),
    task_error(EngineError("the engine has stopped", in_flight=True)),
]
ABSENCES = [
    DeploymentUnavailableError("Encoder"),
    ReplicaUnavailableError("Encoder#1"),
    RuntimeError("Unexpected error (StatusCode.UNAVAILABLE): Socket closed."),
    EngineError("the engine has stopped"),
    task_error(EngineError("the engine has stopped")),
]


@pytest.mark.parametrize("death", DEATHS, ids=repr)
def test_a_dead_replicas_call_is_repeated_once_and_counted(death):
    retried = []

    result = encode(death, "done", retry_seconds=60, on_retry=retried.append)

    assert result == "done"
    assert retried == ["Encoder"]


@pytest.mark.parametrize("first", DEATHS, ids=repr)
@pytest.mark.parametrize("second", DEATHS, ids=repr)
def test_a_call_that_two_replicas_died_of_reaches_no_third(first, second):
    handle = Handle(first, ABSENCES[0], second, "never")

    with pytest.raises(RequestError, match="2 replicas died while they computed this request") as caught:
        asyncio.run(EncoderHandle(handle, retry_seconds=60).encode(clip()))

    assert caught.value.code == "replica_died"
    assert handle.endings == ["never"]


def test_a_stream_that_two_replicas_died_of_reaches_no_third():
    handle = Handle([*deltas("a"), ActorDiedError()], [*deltas("a"), ActorDiedError()], [RESULT])

    with pytest.raises(RequestError, match="2 replicas died"):
        stream(handle, retry_seconds=60)

    assert len(handle.calls) == 2


@pytest.mark.parametrize("absence", ABSENCES, ids=repr)
def test_a_call_that_no_replica_accepted_waits_for_one(absence):
    assert encode(absence, absence, ActorDiedError(), absence, "done", retry_seconds=60) == "done"


def test_an_error_of_the_model_does_not_count_as_a_death():
    with pytest.raises(RuntimeError, match="shapes"):
        encode(RuntimeError("shapes do not match"), "done", retry_seconds=60)


@pytest.mark.parametrize(("samples", "by_reference"), [(1000, False), (250_000, True)])
def test_only_long_sounds_go_through_the_object_store(samples, by_reference):
    handle = Handle("done")

    asyncio.run(EncoderHandle(handle).encode(clip(samples)))

    assert handle.by_reference == by_reference


def test_a_call_refused_by_a_full_queue_is_not_repeated():
    with pytest.raises(RequestError, match="too many"):
        encode(BackPressureError(1, 1), "done", retry_seconds=60)


def test_a_stream_whose_replica_dies_is_resumed_by_another():
    handle = Handle([*deltas("a", " do"), ActorDiedError()], [*deltas("a d", "og b", "arks"), RESULT])

    assert stream(handle, retry_seconds=60) == ["a", " do", "g b", "arks", RESULT]


def test_a_stream_is_not_resumed_by_another_model():
    handle = Handle([*deltas("a"), ActorDiedError()], deltas("the dog", model=NEW))

    with pytest.raises(RequestError, match="new model has taken over"):
        stream(handle, retry_seconds=60)


def test_a_stream_without_a_delta_yet_may_be_repeated_by_another_model():
    result = replace(RESULT, model=NEW)
    handle = Handle([ActorDiedError()], [*deltas("a dog", model=NEW), result])

    assert stream(handle, retry_seconds=60) == ["a dog", result]


def test_a_stream_that_cannot_be_resumed_ends_in_an_error():
    with pytest.raises(RequestError, match="not running"):
        stream(Handle([*deltas("a"), ActorDiedError()]))


def test_a_cancelled_call_is_cancelled_in_the_replica():
    handle = Handle(asyncio.CancelledError())

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(AnswererHandle(handle).describe())

    assert handle.calls[0].cancelled


def test_a_closed_stream_is_cancelled_in_the_replica():
    handle = Handle([*deltas("a", "b"), RESULT])

    async def scenario():
        events = AnswererHandle(handle).stream(*REQUEST)
        await anext(events)
        await events.aclose()

    asyncio.run(scenario())

    assert handle.calls[0].cancelled
