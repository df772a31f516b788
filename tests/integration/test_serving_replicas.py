"""Replicas that fail, each on its own: their replacement, and their requests."""

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest
from ray import serve

from mats_ray.config.answer import AnswerOptions
from mats_ray.config.serve import ServeConfig
from mats_ray.infer.answerer import Answerer
from mats_ray.models.directory import read_info
from mats_ray.serving.errors import RequestError
from mats_ray.serving.on_ray.deployments import AnswererReplica, build_app
from mats_ray.serving.on_ray.handles import AnswererHandle
from mats_ray.serving.types import Embedding
from tests.service import TIMEOUT_SECONDS

pytestmark = pytest.mark.ray

QUESTION = "Is there a dog?"
OPTIONS = AnswerOptions(profile="fast", max_new_tokens=9)


class Breakable(AnswererReplica.func_or_class):
    """An answerer whose engine or process can be stopped."""

    async def answer(self, embedding, instruction, options):
        if instruction.startswith("die "):
            with Path(instruction.removeprefix("die ")).open("a") as deaths:
                deaths.write(f"{os.getpid()}\n")
            os._exit(1)
        return await super().answer(embedding, instruction, options)

    async def stop_engine(self):
        def stop():
            raise SystemExit

        self._engine._engine._batch.step = stop
        return os.getpid()

    async def pid(self):
        return os.getpid()


@pytest.fixture(scope="module")
def breakable(server, model_dir):
    """A handle of one such replica, deployed as the answerer is, beside the service."""
    config = ServeConfig(model=str(model_dir))
    answerer = build_app(config)._bound_deployment.init_args[1]._bound_deployment
    breakable = answerer.options(func_or_class=Breakable).bind(config)
    yield serve.run(breakable, name="breakable", route_prefix=None)
    serve.delete("breakable")


@pytest.mark.slow
def test_a_replica_whose_engine_stops_is_replaced_and_its_requests_answered(breakable, model_dir):
    embedding, expected = embedding_and_answer(model_dir)

    async def scenario():
        remote = AnswererHandle(breakable, retry_seconds=TIMEOUT_SECONDS)
        assert (await remote.answer(embedding, QUESTION, OPTIONS)).answer == expected
        broken = await breakable.stop_engine.remote()
        results = await asyncio.gather(*(remote.answer(embedding, QUESTION, OPTIONS) for _ in range(3)))
        return broken, await breakable.pid.remote(), results

    broken, replacement, results = asyncio.run(scenario())

    assert [one.answer for one in results] == [expected] * 3
    assert replacement != broken


def test_a_request_that_kills_replicas_kills_two(breakable, model_dir, tmp_path):
    embedding, expected = embedding_and_answer(model_dir)
    deaths = tmp_path / "deaths"

    async def scenario():
        remote = AnswererHandle(breakable, retry_seconds=TIMEOUT_SECONDS)
        with pytest.raises(RequestError, match="2 replicas died") as caught:
            await remote.answer(embedding, f"die {deaths}", OPTIONS)
        return caught.value, await remote.answer(embedding, QUESTION, OPTIONS)

    error, result = asyncio.run(scenario())

    assert error.code == "replica_died"
    assert len(set(deaths.read_text().split())) == 2
    assert result.answer == expected


def embedding_and_answer(model_dir):
    """Return an embedding as the encoder sends it, and the answer of the pipeline."""
    answerer, info = Answerer.from_pretrained(model_dir), read_info(model_dir)
    vectors = np.ones(info.model.clap.dim, np.float32)
    generation = OPTIONS.over(answerer.generation)
    (answer,) = answerer.answer(vectors[None], [QUESTION], generation=generation)
    return Embedding(vectors, info.space), answer
