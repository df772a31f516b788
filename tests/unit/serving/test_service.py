import asyncio
from dataclasses import replace

import pytest

from mats_ray.config.answer import AnswerOptions
from mats_ray.errors import AudioError
from mats_ray.serving.parts import Ask, Upload
from mats_ray.serving.problems import RequestError
from mats_ray.serving.service import AudioService
from tests.unit.serving.fakes import CARD, FakeAnswerer, FakeDecoder, FakeEncoder

UPLOAD = Upload(data=b"seconds:3", name="a.wav")


def service(**options):
    return AudioService(FakeEncoder(), FakeAnswerer(), decoder=FakeDecoder(), **options)


def ask(question=None, **more):
    return Ask(upload=UPLOAD, question=question, **more)


async def collect(pieces):
    return [piece async for piece in pieces]


def test_a_question_is_trimmed_and_asked():
    reply = asyncio.run(service().reply(ask("  A dog? ")))

    assert (reply.answer.text, reply.model, reply.audio_seconds) == ("A dog? 3", "toy-0123", 3)
    assert reply.prompt_tokens == 40


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (ask(" "), "missing_field"),
        (ask("why?"), "invalid_field"),
        (ask("?", options=AnswerOptions(max_new_tokens=513)), "invalid_field"),
    ],
    ids=["blank", "too long", "too long an answer"],
)
def test_a_bad_question_is_refused_before_anything_is_decoded(asked, code):
    one = service(max_question_characters=3)
    one.decoder = None

    with pytest.raises(RequestError) as caught:
        asyncio.run(one.reply(asked))

    assert caught.value.code == code


def test_audio_errors_pass_through():
    with pytest.raises(AudioError, match=r"b\.wav: empty"):
        asyncio.run(service().reply(Ask(upload=Upload(data=b"error:empty", name="b.wav"))))


def test_windows_are_answered_one_by_one_and_joined():
    reply = asyncio.run(service().reply(ask("A dog?", window=1.25)))

    assert reply.answer.text == "[0.0-1.2 s] A dog? 1.25\n[1.2-2.5 s] A dog? 1.25\n[2.5-3.0 s] A dog? 0.5"
    assert (reply.answer.num_tokens, reply.prompt_tokens) == (9, 120)
    assert [(window.start_seconds, window.end_seconds) for window, _ in reply.windows] == [
        (0, 1.25),
        (1.25, 2.5),
        (2.5, 3),
    ]


@pytest.mark.parametrize("window", [None, 1.25])
def test_a_stream_adds_up_to_the_reply(window):
    asked = ask("A dog?", window=window)

    card, *pieces, streamed = asyncio.run(collect(service().stream(asked)))

    whole = asyncio.run(service().reply(asked))
    assert "".join(pieces) == whole.answer.text == streamed.answer.text
    assert streamed.prompt_tokens == whole.prompt_tokens
    assert len(pieces) == 3
    assert card == CARD


def test_a_stream_given_up_is_given_up_behind_it():
    one = service()

    async def scenario():
        pieces = one.stream(ask("A dog?"))
        await anext(pieces)
        await pieces.aclose()

    asyncio.run(scenario())

    assert one.answerer.left == 1


def test_labels_are_sorted_by_how_well_they_fit():
    _, matches = asyncio.run(service().classify(UPLOAD, ["cat", "dog", "rain"]))

    assert [match.label for match in matches] == ["dog", "cat", "rain"]
    assert sum(match.score for match in matches) == pytest.approx(1)


def test_the_warm_up_goes_all_the_way():
    assert asyncio.run(service().warm_up()).id == "toy-0123"


def rolling_out(**options):
    """A service in the middle of a roll-out, with a new card for the model it knows."""
    one = service(retry_seconds=60, **options)
    one._card = replace(CARD, id="old", version="0")
    return one


def test_an_embedding_of_another_clap_is_made_again():
    one = rolling_out()
    one.encoder.spaces = ["another CLAP", "another CLAP", ""]

    reply = asyncio.run(one.reply(ask("A dog?")))

    assert reply.answer.text == "A dog? 3"
    assert len(one.answerer.asked) == 3


def test_a_stream_begins_anew_with_an_embedding_of_its_own_clap():
    one = rolling_out()
    one.encoder.spaces = ["another CLAP"]

    _, *pieces, _ = asyncio.run(collect(one.stream(ask("A dog?"))))

    assert "".join(pieces) == "A dog? 3"


def test_windows_answered_by_two_models_are_asked_again():
    one = rolling_out()
    one.answerer.cards = [replace(CARD, version="0")]

    reply = asyncio.run(one.reply(ask("A dog?", window=1.25)))

    assert {told.by for _, told in reply.windows} == {CARD}


def test_a_reply_names_the_model_that_gave_it():
    assert asyncio.run(rolling_out().reply(ask("A dog?"))).model == CARD.id


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
