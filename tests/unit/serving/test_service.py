import asyncio
import threading

import pytest

from mats_ray.errors import AudioError
from mats_ray.serving.problems import RequestError
from mats_ray.serving.service import AudioService, Upload
from tests.unit.serving.fakes import FakeAnswerer, FakeEncoder, fake_decode

UPLOAD = Upload(data=b"seconds:3", name="a.wav")


def service(*, decode=fake_decode, **options):
    return AudioService(FakeEncoder(), FakeAnswerer(), decode=decode, **options)


def test_a_question_is_trimmed_and_asked():
    reply = asyncio.run(service().ask(UPLOAD, "  A dog? "))

    assert (reply.answer.text, reply.model, reply.audio_seconds) == ("A dog? 3", "toy-0123", 3)


@pytest.mark.parametrize(("question", "code"), [(" ", "missing_field"), ("why?", "invalid_field")])
def test_a_bad_question_is_refused_before_anything_is_decoded(question, code):
    def decode(data, *, name):
        raise AssertionError("decoded")

    with pytest.raises(RequestError) as caught:
        asyncio.run(service(decode=decode, max_question_characters=3).ask(UPLOAD, question))

    assert caught.value.code == code


def test_decoding_happens_off_the_event_loop():
    threads = []

    def decode(data, *, name):
        threads.append(threading.current_thread())
        return fake_decode(data, name=name)

    asyncio.run(service(decode=decode).caption(UPLOAD))

    assert threads[0] is not threading.main_thread()


def test_audio_errors_pass_through():
    with pytest.raises(AudioError, match=r"b\.wav: empty"):
        asyncio.run(service().caption(Upload(data=b"error:empty", name="b.wav")))


def test_the_warm_up_goes_all_the_way():
    assert asyncio.run(service().warm_up()).id == "toy-0123"
