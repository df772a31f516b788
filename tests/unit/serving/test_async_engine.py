"""The engine from an event loop: whole answers and streams, and what becomes of those given up."""

import asyncio

import numpy as np
import pytest

from mats_ray.config.answer import AnswerOptions
from mats_ray.config.generation import GenerationConfig
from mats_ray.errors import ConfigError
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.batching import BatchingEngine
from mats_ray.serving.async_engine import Teller
from tests.world import CLAP_DIM

EMBEDDING = np.random.default_rng(0).normal(size=CLAP_DIM).astype(np.float32)
ASKED = (EMBEDDING, "Is there a dog?", AnswerOptions(profile="fast", max_new_tokens=9))


@pytest.fixture(scope="module")
def answerer(model_dir):
    return Answerer.from_pretrained(model_dir)


@pytest.fixture
def teller(answerer):
    engine = BatchingEngine(answerer, max_requests=2)
    yield Teller(engine)
    engine.close()


async def collect(pieces):
    return [piece async for piece in pieces]


def test_a_stream_and_a_whole_answer_are_the_same(teller, answerer):
    async def both():
        return await asyncio.gather(teller.answer(*ASKED), collect(teller.stream(*ASKED)))

    told, (*pieces, last) = asyncio.run(both())

    generation = GenerationConfig(profile="fast", max_new_tokens=9)
    assert told.answer == answerer.answer(EMBEDDING[None], [ASKED[1]], generation=generation)[0]
    assert "".join(pieces) == last.answer.text == told.answer.text
    assert told.prompt_tokens == answerer.count_prompt(ASKED[1])


def test_an_error_reaches_its_asker(answerer):
    engine = BatchingEngine(Answerer(**fields(answerer) | {"memory": None}), max_requests=2)
    teller, options = Teller(engine), AnswerOptions(santa=True)

    for telling in (teller.answer(EMBEDDING, "?", options), collect(teller.stream(EMBEDDING, "?", options))):
        with pytest.raises(ConfigError, match="Santa memory"):
            asyncio.run(telling)
    engine.close()


def test_whoever_goes_away_frees_a_place(teller):
    async def scenario():
        long = AnswerOptions(max_new_tokens=400)
        waiting = [asyncio.create_task(teller.answer(EMBEDDING, "?", long)) for _ in range(2)]
        stream = teller.stream(EMBEDDING, "?", long)
        await asyncio.sleep(0.05)
        for task in waiting:
            task.cancel()
        first = await anext(stream)
        await stream.aclose()
        while teller.load.running or teller.load.waiting:
            await asyncio.sleep(0.01)
        return first

    assert asyncio.run(asyncio.wait_for(scenario(), 30))


def fields(answerer):
    return {name: getattr(answerer, name) for name in answerer.__dataclass_fields__}
