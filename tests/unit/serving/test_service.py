import asyncio
from dataclasses import replace

import pytest

from mats_ray.config.answer import AnswerOptions
from mats_ray.config.serve import ServeConfig
from mats_ray.errors import AudioError
from mats_ray.serving.errors import RequestError
from mats_ray.serving.service import MAX_CONCURRENT_WINDOWS, AudioService
from mats_ray.serving.types import AnswerRequest, Upload
from tests.unit.serving.fakes import CARD, FakeAnswerer, FakeDecoder, FakeEncoder

UPLOAD = Upload(data=b"seconds:3", name="a.wav")


def service(**options):
    limits = ServeConfig(**({"retry_seconds": 0} | options))
    return AudioService(FakeEncoder(), FakeAnswerer(), decoder=FakeDecoder(), limits=limits)


def request(question=None, **more):
    return AnswerRequest(upload=UPLOAD, question=question, **more)


class Queue:
    """A model's queue: counts calls under way, refuses one too many, may fail one; others wait at a gate."""

    def __init__(self, model, method, *, size=10**6, fail=None, num_free=0):
        self._call, self._size, self.fail, self._num_free = getattr(model, method), size, fail, num_free
        self.gate = asyncio.Event()
        self.gate.set()
        self.under_way = self.most = self.started = 0
        setattr(model, method, self)

    async def __call__(self, *args):
        if self.under_way >= self._size:
            raise RequestError("too many", code="overloaded")
        self.started += 1
        number = self.started
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0)  # as a remote call, it does not end in the turn in which it starts
            if number == self.fail:
                raise RequestError("no", code="unavailable")
            if number > self._num_free:
                await self.gate.wait()
            return await self._call(*args)
        finally:
            self.under_way -= 1


def minute(**more):
    return AnswerRequest(upload=Upload(data=b"seconds:60", name="a.wav"), **more)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


CALLS = {
    "answer": lambda one: one.answer(minute(window_seconds=1.5)),
    "stream": lambda one: collect(one.stream(minute(window_seconds=1.5))),
    "embeddings": lambda one: one.embed(minute().upload, 1.5),
    "classification": lambda one: one.classify(minute().upload, ["dog"]),
}


async def collect(events):
    return [event async for event in events]


def text_of(deltas):
    return "".join(delta.text for delta in deltas)


def test_a_question_is_trimmed_and_answered():
    response = asyncio.run(service().answer(request("  A dog? ")))

    assert (response.answer.text, response.model.id, response.audio_seconds) == ("A dog? 3", "toy-0123", 3)
    assert response.prompt_tokens == 40


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (request(" "), "missing_field"),
        (request("why?"), "invalid_field"),
        (request("?", options=AnswerOptions(max_new_tokens=513)), "invalid_field"),
    ],
    ids=["blank", "too long", "too long an answer"],
)
def test_a_bad_question_is_refused_before_anything_is_decoded(bad, code):
    one = service(max_question_characters=3)
    one.decoder = None

    with pytest.raises(RequestError) as caught:
        asyncio.run(one.answer(bad))

    assert caught.value.code == code


def test_audio_errors_pass_through():
    with pytest.raises(AudioError, match=r"b\.wav: empty"):
        asyncio.run(service().answer(AnswerRequest(upload=Upload(data=b"error:empty", name="b.wav"))))


def test_windows_are_answered_one_by_one_and_joined():
    response = asyncio.run(service().answer(request("A dog?", window_seconds=1.25)))

    assert response.answer.text == "[0.0-1.2 s] A dog? 1.25\n[1.2-2.5 s] A dog? 1.25\n[2.5-3.0 s] A dog? 0.5"
    assert (response.answer.num_tokens, response.prompt_tokens) == (9, 120)
    assert [(window.start_seconds, window.end_seconds) for window, _ in response.windows] == [
        (0, 1.25),
        (1.25, 2.5),
        (2.5, 3),
    ]


@pytest.mark.parametrize("window", [None, 1.25])
def test_a_stream_adds_up_to_the_response(window):
    question = request("A dog?", window_seconds=window)

    *deltas, streamed = asyncio.run(collect(service().stream(question)))

    whole = asyncio.run(service().answer(question))
    assert text_of(deltas) == whole.answer.text == streamed.answer.text
    assert streamed.prompt_tokens == whole.prompt_tokens
    assert len(deltas) == 3
    assert {event.model.id for event in [*deltas, streamed]} == {CARD.id}


def test_closing_a_stream_closes_that_of_the_answerer():
    one = service()

    async def scenario():
        events = one.stream(request("A dog?"))
        await anext(events)
        await events.aclose()

    asyncio.run(scenario())

    assert one.answerer.num_closed_streams == 1


def test_labels_are_sorted_by_how_well_they_fit():
    _, matches = asyncio.run(service().classify(UPLOAD, ["cat", "dog", "rain"]))

    assert [match.label for match in matches] == ["dog", "cat", "rain"]
    assert sum(match.score for match in matches) == pytest.approx(1)


def test_the_warm_up_runs_every_stage():
    assert asyncio.run(service().warm_up()).id == "toy-0123"


def rolling_out(**options):
    """A service in the middle of a roll-out, whose cached model card is that of the old model."""
    one = service(retry_seconds=60, **options)
    one._card = replace(CARD, id="old", version="0")
    return one


def test_an_embedding_of_another_clap_is_made_again():
    one = rolling_out()
    one.encoder.spaces = ["another CLAP", "another CLAP", ""]

    response = asyncio.run(one.answer(request("A dog?")))

    assert response.answer.text == "A dog? 3"
    assert len(one.answerer.options) == 3


def test_a_stream_starts_again_with_an_embedding_of_its_own_clap():
    one = rolling_out()
    one.encoder.spaces = ["another CLAP"]

    *deltas, _ = asyncio.run(collect(one.stream(request("A dog?"))))

    assert text_of(deltas) == "A dog? 3"


def test_windows_answered_by_two_models_are_answered_again():
    one = rolling_out()
    one.answerer.cards = [replace(CARD, version="0")]

    response = asyncio.run(one.answer(request("A dog?", window_seconds=1.25)))

    assert {result.model for _, result in response.windows} == {CARD}


def test_a_response_names_its_model():
    assert asyncio.run(rolling_out().answer(request("A dog?"))).model == CARD


def test_a_model_just_rolled_out_is_found():
    one = rolling_out()

    assert asyncio.run(one.model()).id == "old"
    assert asyncio.run(one.model(CARD.id)) == CARD


def test_sound_and_labels_are_embedded_by_one_clap():
    one = rolling_out()
    one.encoder.spaces = ["another CLAP"]

    _, matches = asyncio.run(one.classify(UPLOAD, ["dog", "rain"]))

    assert [match.label for match in matches] == ["dog", "rain"]
    assert not one.encoder.spaces


@pytest.mark.parametrize("name", ["answer", "stream", "embeddings"])
def test_an_idle_server_answers_any_number_of_windows_through_a_small_queue(name):
    async def scenario():
        one = service()
        encoding = Queue(one.encoder, "encode", size=MAX_CONCURRENT_WINDOWS)
        answering = Queue(one.answerer, "answer", size=MAX_CONCURRENT_WINDOWS)
        await CALLS[name](one)
        return encoding.started, answering.started

    assert asyncio.run(scenario()) in {(40, 40), (40, 0)}


@pytest.mark.parametrize(
    ("name", "model"),
    [*((name, "encoder") for name in CALLS), ("answer", "answerer"), ("stream", "answerer")],
)
def test_a_refused_request_leaves_nothing_running(name, model):
    async def scenario():
        one = service()
        queues = {
            "encoder": Queue(one.encoder, "encode", num_free=0 if name == "classification" else 2),
            "answerer": Queue(one.answerer, "answer", num_free=2),
            "labels": Queue(one.encoder, "encode_labels", fail=1),
        }
        queues[model].fail = 3
        queues[model].gate.clear()  # all others are still under way when one fails
        with pytest.raises(RequestError, match="no"):
            await CALLS[name](one)
        return sum(queue.under_way for queue in queues.values()), one._seconds.held, one._windows.held

    assert asyncio.run(scenario()) == (0, 0, 0)


@pytest.mark.parametrize("name", CALLS)
def test_a_cancelled_request_leaves_nothing_running(name):
    async def scenario():
        one = service()
        encoding, labels = Queue(one.encoder, "encode"), Queue(one.encoder, "encode_labels")
        encoding.gate.clear()
        asking = asyncio.create_task(CALLS[name](one))
        await until(lambda: encoding.under_way)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        return encoding.under_way, labels.under_way, one._seconds.held, one._windows.held

    assert asyncio.run(scenario()) == (0, 0, 0, 0)


def test_a_stream_of_windows_given_up_leaves_nothing_running():
    async def scenario():
        one = service()
        answering = Queue(one.answerer, "answer", num_free=1)
        answering.gate.clear()
        events = one.stream(minute(window_seconds=1.5))
        await anext(events)
        await until(lambda: answering.under_way == MAX_CONCURRENT_WINDOWS)
        await events.aclose()
        return answering.under_way, answering.started < 40

    assert asyncio.run(scenario()) == (0, True)


@pytest.mark.parametrize("name", CALLS)
def test_audio_too_long_to_embed_in_time_is_refused_before_decoding(name):
    async def scenario():
        one = service(max_seconds_in_flight=100)
        encoding = Queue(one.encoder, "encode")
        encoding.gate.clear()
        first = asyncio.create_task(one.answer(minute()))
        await until(lambda: encoding.under_way)
        with pytest.raises(RequestError) as caught:
            await CALLS[name](one)
        encoding.gate.set()
        await first
        await CALLS[name](one)
        return caught.value.code, str(caught.value), encoding.started > 1

    code, message, again = asyncio.run(scenario())

    assert (code, again) == ("overloaded", True)
    assert "no room for 60 seconds of audio more" in message


def test_seconds_are_free_once_they_are_embedded_and_windows_once_they_are_answered():
    async def scenario():
        one = service(max_seconds_in_flight=60, max_windows_in_flight=40)
        answering = Queue(one.answerer, "answer")
        answering.gate.clear()
        first = asyncio.create_task(one.answer(minute(window_seconds=1.5)))
        await until(lambda: answering.under_way == MAX_CONCURRENT_WINDOWS)
        seconds, windows = one._seconds.held, one._windows.held
        with pytest.raises(RequestError, match="no room for 1 windows more"):
            await one.answer(request())
        answering.gate.set()
        await first
        return seconds, windows, one._windows.held

    assert asyncio.run(scenario()) == (60 - 8 * 1.5, 40, 0)


@pytest.mark.parametrize("name", CALLS)
def test_one_request_alone_is_answered_whatever_room_there_is(name):
    asyncio.run(CALLS[name](service(max_seconds_in_flight=1, max_windows_in_flight=1)))


@pytest.mark.parametrize("call", ["answer", "stream"])
def test_an_answerer_scaled_to_zero_starts_while_the_encoder_does(call, monkeypatch):
    monkeypatch.setattr("mats_ray.serving.service._SLOW_ENCODE_SECONDS", 0.01)

    async def run():
        one = service()
        encode, describe = Queue(one.encoder, "encode"), Queue(one.answerer, "describe")
        encode.gate.clear()
        task = asyncio.create_task(CALLS[call](one))
        await until(lambda: describe.started)
        encode.gate.set()
        await task

    asyncio.run(run())


def test_the_answerer_is_not_called_beside_a_request_that_is_fast():
    async def run():
        one = service()
        describe = Queue(one.answerer, "describe")
        await one.answer(request())
        await asyncio.sleep(0)
        return describe.started

    assert asyncio.run(run()) == 0
