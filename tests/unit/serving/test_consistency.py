"""Requests that meet two models in the middle of a roll-out."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from mats_ray.serving.consistency import Agreement, check_one_space, check_one_voice, check_space
from mats_ray.serving.errors import RequestError
from mats_ray.serving.types import Embedded, ModelCard, Told
from mats_ray.types import Answer

TOLD = Told(answer=Answer(text="a dog", num_tokens=2, finish_reason="stop"))
MIXED = RequestError("two models", code="rolling_out")
VECTOR = np.zeros(2, np.float32)


def card(version):
    return ModelCard(id="toy", created=0, version=version)


def reach(*endings, seconds=60.0):
    """Attempts that end as planned; return the result and how often was waited."""
    left, waits = list(endings), []

    async def attempt():
        ending = left.pop(0)
        if isinstance(ending, Exception):
            raise ending
        return ending

    async def sleep(seconds):
        waits.append(seconds)

    return asyncio.run(Agreement(seconds, sleep=sleep).reach(attempt)), len(waits)


def test_what_meets_two_models_is_asked_again_until_there_is_one():
    assert reach(MIXED, MIXED, "one model") == ("one model", 2)


def test_other_errors_are_not_asked_again():
    with pytest.raises(RequestError, match="full"):
        reach(RequestError("full", code="overloaded"), "late")


def test_it_is_given_up_in_time():
    with pytest.raises(RequestError, match="two models"):
        reach(MIXED, "late", seconds=0)


def test_an_embedding_of_another_clap_is_refused():
    check_space(Embedded(VECTOR, "old CLAP"), "old CLAP")
    with pytest.raises(RequestError) as caught:
        check_space(Embedded(VECTOR, "new CLAP"), "old CLAP")
    assert caught.value.code == "rolling_out"


def test_a_reply_has_embeddings_of_one_clap():
    check_one_space([Embedded(VECTOR, "a"), Embedded(VECTOR, "a")])
    with pytest.raises(RequestError):
        check_one_space([Embedded(VECTOR, "a"), Embedded(VECTOR, "b")])


def test_a_reply_has_answers_of_one_model():
    check_one_voice([replace(TOLD, by=card("1")), replace(TOLD, by=card("1"))])
    with pytest.raises(RequestError):
        check_one_voice([replace(TOLD, by=card("1")), replace(TOLD, by=card("2"))])
