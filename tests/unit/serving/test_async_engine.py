"""The engine on an event loop: whole answers, streams, and cancelled ones."""

import asyncio

import numpy as np
import pytest

from mats_ray.config.answer import AnswerOptions
from mats_ray.config.generation import GenerationConfig
from mats_ray.errors import ConfigError
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.batching import BatchingEngine
from mats_ray.models.bridges.bridge import NoBridge
from mats_ray.serving.async_engine import AsyncEngine
from mats_ray.serving.types import ModelCard
from tests.world import CLAP_DIM

EMBEDDING = np.random.default_rng(0).normal(size=CLAP_DIM).astype(np.float32)
CARD = ModelCard(id="tiny", created=0)
REQUEST = (EMBEDDING, "Is there a dog?", AnswerOptions(profile="fast", max_new_tokens=9))


@pytest.fixture(scope="module")
def answerer(model_dir):
    return Answerer.from_pretrained(model_dir)


@pytest.fixture
def engine(answerer):
    engine = BatchingEngine(answerer, max_requests=2)
    yield AsyncEngine(engine, CARD)
    engine.close()


async def collect(events):
    return [event async for event in events]


def test_a_stream_and_a_whole_answer_are_the_same(engine, answerer):
    async def both():
        return await asyncio.gather(engine.answer(*REQUEST), collect(engine.stream(*REQUEST)))

    result, (*deltas, last) = asyncio.run(both())

    generation = GenerationConfig(profile="fast", max_new_tokens=9)
    assert result.answer == answerer.answer(EMBEDDING[None], [REQUEST[1]], generation=generation)[0]
    assert "".join(delta.text for delta in deltas) == last.answer.text == result.answer.text
    assert {event.model for event in (result, *deltas, last)} == {CARD}
    assert result.prompt_tokens == answerer.count_prompt(answerer.prompts.after(REQUEST[1]))


def test_an_error_reaches_its_caller(answerer):
    batching = BatchingEngine(Answerer(**fields(answerer) | {"bridge": NoBridge()}), max_requests=2)
    engine, options = AsyncEngine(batching, CARD), AnswerOptions(santa=True)

    for call in (engine.answer(EMBEDDING, "?", options), collect(engine.stream(EMBEDDING, "?", options))):
        with pytest.raises(ConfigError, match="Santa memory"):
            asyncio.run(call)
    batching.close()


def test_a_cancelled_caller_frees_a_place(engine):
    async def scenario():
        long = AnswerOptions(max_new_tokens=400)
        waiting = [asyncio.create_task(engine.answer(EMBEDDING, "?", long)) for _ in range(2)]
        stream = engine.stream(EMBEDDING, "?", long)
        await asyncio.sleep(0.05)
        for task in waiting:
            task.cancel()
        first = await anext(stream)
        await stream.aclose()
        while engine.load.running or engine.load.waiting:
            await asyncio.sleep(0.01)
        return first

    assert asyncio.run(asyncio.wait_for(scenario(), 30))


def fields(answerer):
    return {name: getattr(answerer, name) for name in answerer.__dataclass_fields__}
