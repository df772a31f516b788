"""The generation engine on the device: cancelled requests and failed memory change no other answer."""

import queue

import numpy as np
import pytest
import torch

from mats_ray.config.answer import AnswerOptions
from mats_ray.config.generation import PROFILES
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.batching import BatchingEngine
from mats_ray.infer.engine import EngineLoad, Generation, GenerationRequest, TextDelta, generate
from mats_ray.models.generation.kv_cache import KVCache
from tests.world import CLAP_DIM

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def answerer(model_dir, device):
    return Answerer.from_pretrained(model_dir, device=device)


def request(number, **options):
    embedding = np.random.default_rng(number).normal(size=CLAP_DIM).astype(np.float32)
    options = {"max_new_tokens": 4 + number, "profile": list(PROFILES)[number % 2]} | options
    return GenerationRequest(
        embedding_C=embedding, instruction="rain? " * (number % 4 + 1), options=AnswerOptions(**options)
    )


def alone(answerer, number):
    engine = BatchingEngine(answerer, max_requests=1)
    (found,) = answers(engine, [number])
    engine.close()
    return found


def answers(engine, numbers):
    found = generate(engine, [request(number) for number in numbers])
    assert all(isinstance(one, Generation) for one in found), found
    return [one.answer for one in found if isinstance(one, Generation)]


@pytest.fixture(scope="module")
def expected(answerer):
    return [alone(answerer, number) for number in range(12)]


def test_answers_do_not_depend_on_the_batch(answerer, expected):
    engine = BatchingEngine(answerer, max_requests=8)

    found = answers(engine, range(12))

    engine.close()
    assert found == expected


def test_cancelled_requests_leave_and_the_others_are_answered(answerer, expected):
    engine = BatchingEngine(answerer, max_requests=4)
    events = [queue.Queue() for _ in range(12)]
    requests = [request(number) for number in range(12)]
    for one, its in zip(requests, events, strict=True):
        engine.submit(one, its.put)
    for one in requests[::3]:
        engine.cancel(one.id)

    for number, its in enumerate(events):
        if number % 3:
            while isinstance(event := its.get(timeout=60), TextDelta):
                pass
            assert isinstance(event, Generation)
            assert event.answer == expected[number]
    engine.close()
    assert engine.load() == EngineLoad(running=0, waiting=0)


@pytest.mark.parametrize("step", ["step", "selected", "joined"])
def test_where_memory_fails_for_many_rows_smaller_batches_answer(answerer, expected, monkeypatch, step):
    """On a card the memory really fails: more is asked for than it has."""
    original, failures = getattr(KVCache, step), []

    def scarce(self, *args, **kwargs):
        rows = len(args[0]) if args and isinstance(args[0], list) else len(self)
        if rows > 4:
            failures.append(rows)
            if answerer.device == "cuda":
                torch.empty(2**42, dtype=torch.uint8, device="cuda")
            raise torch.OutOfMemoryError
        return original(self, *args, **kwargs)

    monkeypatch.setattr(KVCache, step, scarce)
    engine = BatchingEngine(answerer, max_requests=4)  # so that later ones join those that are running

    found = answers(engine, range(12))

    engine.close()
    assert failures
    assert found == expected


def test_memory_returns_after_many_requests(answerer, device):
    engine = BatchingEngine(answerer, max_requests=8)
    held = []
    for _ in range(3):
        answers(engine, range(24))
        held.append(torch.cuda.memory_allocated() if device == "cuda" else 0)
    engine.close()

    assert held[2] <= held[0] + 2**20
