"""Requests that meet two models in the middle of a roll-out."""

import asyncio

import numpy as np
import pytest

from mats_ray.serving.consistency import RolloutRetry, check_one_model, check_one_space, check_space
from mats_ray.serving.errors import RequestError
from mats_ray.serving.types import AnswerResult, Embedding, ModelCard
from mats_ray.types import Answer

MIXED = RequestError("two models", code="rolling_out")
VECTOR = np.zeros(2, np.float32)


def result(version):
    answer = Answer(text="a dog", num_tokens=2, finish_reason="stop")
    return AnswerResult(answer=answer, model=ModelCard(id="toy", created=0, version=version))


def run(*endings, seconds=60.0):
    """Make attempts that end as planned; return the result and the number of waits."""
    left, waits = list(endings), []

    async def attempt():
        ending = left.pop(0)
        if isinstance(ending, Exception):
            raise ending
        return ending

    async def sleep(seconds):
        waits.append(seconds)

    return asyncio.run(RolloutRetry(seconds, sleep=sleep).run(attempt)), len(waits)


def test_an_attempt_that_meets_two_models_is_repeated_until_there_is_one():
    assert run(MIXED, MIXED, "one model") == ("one model", 2)


def test_other_errors_are_not_retried():
    with pytest.raises(RequestError, match="full"):
        run(RequestError("full", code="overloaded"), "late")


def test_retries_end_in_time():
    with pytest.raises(RequestError, match="two models"):
        run(MIXED, "late", seconds=0)


def test_an_embedding_of_another_clap_is_refused():
    check_space(Embedding(VECTOR, "old CLAP"), "old CLAP")
    with pytest.raises(RequestError) as caught:
        check_space(Embedding(VECTOR, "new CLAP"), "old CLAP")
    assert caught.value.code == "rolling_out"


def test_a_response_has_embeddings_of_one_clap():
    check_one_space([Embedding(VECTOR, "a"), Embedding(VECTOR, "a")])
    with pytest.raises(RequestError):
        check_one_space([Embedding(VECTOR, "a"), Embedding(VECTOR, "b")])


def test_a_response_has_answers_of_one_model():
    check_one_model([result("1"), result("1")])
    with pytest.raises(RequestError):
        check_one_model([result("1"), result("2")])
