"""Many requests, one thread: each gets its own answer, the pipeline's, whatever becomes of the others."""

import queue
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from mats_ray.config.answer import AnswerOptions, SantaOptions
from mats_ray.config.generation import GenerationConfig
from mats_ray.errors import AnswerError, ConfigError, EngineError
from mats_ray.infer import batching
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.batching import BatchingEngine, RunningBatch, check_request
from mats_ray.infer.engine import EngineLoad, Generation, GenerationRequest, TextDelta, generate, stream
from mats_ray.models.bridges.bridge import NoBridge
from mats_ray.models.bridges.mean_shift import MeanShift
from mats_ray.models.mats import MATS
from mats_ray.models.prompt import PromptTokenizer
from tests.world import CLAP_DIM


@pytest.fixture(scope="module")
def answerer(model_dir):
    return Answerer.from_pretrained(model_dir)


@pytest.fixture
def engine(answerer):
    engine = BatchingEngine(answerer, max_requests=4)
    yield engine
    engine.close()


def embedding(number):
    return np.random.default_rng(number).normal(size=CLAP_DIM).astype(np.float32)


def request(number, **options):
    return GenerationRequest(
        embedding_C=embedding(number),
        instruction="rain? " * (number % 4 + 1),
        options=AnswerOptions(**options),
    )


def collect(events):
    """Collect an answer: its text and its last event."""
    text = ""
    while True:
        event = events.get(timeout=30)
        if not isinstance(event, TextDelta):
            return text, event
        text += event.text


def test_every_request_gets_the_answer_it_has_alone(engine, answerer):
    profiles = ["fast", "paper"] * 5
    requests = [request(n, profile=profile, max_new_tokens=3 + n) for n, profile in enumerate(profiles)]
    queues = [queue.Queue() for _ in requests]

    for one, events in zip(requests, queues, strict=True):
        engine.submit(one, events.put)
    results = [collect(events) for events in queues]

    for n, (one, (text, finished)) in enumerate(zip(requests, results, strict=True)):
        generation = GenerationConfig(profile=profiles[n], max_new_tokens=3 + n)
        expected = answerer.answer(one.embedding_C[None], [one.instruction.strip()], generation=generation)
        assert (
            finished.answer
            == answerer.answer(one.embedding_C[None], [one.instruction], generation=generation)[0]
        )
        assert text == finished.answer.text
        assert expected
    assert max(finished.batch_size for _, finished in results) == 4
    assert max(finished.queue_seconds for _, finished in results) > 0
    assert engine.load() == EngineLoad(running=0, waiting=0)


def test_a_request_that_cannot_be_answered_fails_alone(engine, answerer, monkeypatch):
    good, bad = request(1), request(2, santa=True)
    without = BatchingEngine(Answerer(**vars_of(answerer) | {"bridge": NoBridge()}), max_requests=4)
    queues = {one: queue.Queue() for one in (good, bad)}

    for one, events in queues.items():
        without.submit(one, events.put)

    assert isinstance(collect(queues[good])[1], Generation)
    assert isinstance(collect(queues[bad])[1], ConfigError)
    without.close()


def test_a_cancelled_request_frees_its_place(engine):
    endless = [request(n, max_new_tokens=400) for n in range(3)]
    late, events = request(5, max_new_tokens=2), queue.Queue()
    for one in endless:
        engine.submit(one, lambda event: None)
    engine.submit(late, events.put)

    for one in endless:
        engine.cancel(one.id)

    assert isinstance(collect(events)[1], Generation)
    until(lambda: engine.load().running == 0)


def until(is_true):
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


LONG = "rain on the roof? " * 4
"""A prompt whose tokens reach positions that no other prompt of these tests reaches."""


def break_forward(answerer, monkeypatch, is_broken):
    """Let a pass of the language model fail where ``is_broken(position_ids)``; returns a count of passes."""
    forward, passes = answerer.model.llm.forward, []

    def failing(*args, **kwargs):
        passes.append(len(kwargs["position_ids"]))
        if is_broken(kwargs["position_ids"]):
            raise RuntimeError("out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(answerer.model.llm, "forward", failing)
    return passes


def run(engine, requests):
    """Submit all at once, so that they share a batch; return how each ended."""
    queues = [queue.Queue() for _ in requests]
    with engine._changed:
        for one, events in zip(requests, queues, strict=True):
            engine.submit(one, events.put)
    return [collect(events)[1] for events in queues]


def alone(answerer, one):
    """Answer a request in a batch of its own, on this thread."""
    batch = RunningBatch(answerer)
    outcomes = batch.add([one], [check_request(answerer, one)])
    while len(batch):
        outcomes = batch.step()
    return outcomes[-1][1].answer


@pytest.mark.parametrize("profile", ["fast", "paper"])
@pytest.mark.parametrize("when", ["its prompt is read", "its third token is computed"])
def test_an_answer_the_model_fails_at_ends_alone(answerer, engine, monkeypatch, when, profile):
    good = [request(n, profile=profile, max_new_tokens=6) for n in range(3)]
    faulty = replace(request(7, profile=profile, max_new_tokens=6), instruction=LONG)
    expected = [alone(answerer, one) for one in good]
    at = answerer.count_prompt(answerer.prompts.after(LONG)) + (2 if "third" in when else -1)
    assert all(answerer.count_prompt(answerer.prompts.after(one.instruction)) + 6 < at for one in good)
    break_forward(answerer, monkeypatch, lambda positions: bool((positions == at).any()))

    *answers, error = run(engine, [*good, faulty])

    assert [one.answer for one in answers] == expected
    assert str(error) == "out of memory"
    assert run(engine, good)[0].answer == expected[0]
    engine.check_health()


def test_a_batch_too_large_for_the_memory_is_answered_in_parts(answerer, engine, monkeypatch):
    requests = [request(n, max_new_tokens=6) for n in range(3)]
    expected = [alone(answerer, one) for one in requests]
    break_forward(answerer, monkeypatch, lambda positions: len(positions) > 1)

    assert [one.answer for one in run(engine, requests)] == expected
    engine.check_health()


def test_numbers_that_are_not_finite_never_become_an_answer(answerer, engine, monkeypatch):
    good, bad = request(1, max_new_tokens=6), replace(request(2, max_new_tokens=6), instruction=LONG)
    expected, last = alone(answerer, good), answerer.count_prompt(answerer.prompts.after(LONG)) - 1
    forward = answerer.model.llm.forward

    def not_finite(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.logits[(kwargs["position_ids"] == last).any(dim=1), :, 5] = torch.nan
        return output

    monkeypatch.setattr(answerer.model.llm, "forward", not_finite)

    finished, error = run(engine, [good, bad])

    assert finished.answer == expected
    assert (type(error), error.code) == (AnswerError, "answer_failed")


def test_a_listener_that_raises_loses_its_own_answer_only(answerer, engine):
    good, bad = request(1, max_new_tokens=9), request(2, max_new_tokens=9)
    received, events = [], queue.Queue()

    def listener(event):
        received.append(event)
        raise ValueError("no connection")

    engine.submit(bad, listener)
    engine.submit(good, events.put)

    assert collect(events)[1].answer == alone(answerer, good)
    assert len(received) == 1
    engine.check_health()


def test_ids_that_make_no_text_end_their_answer_only(answerer, engine, monkeypatch):
    requests = [request(n, max_new_tokens=4 + n) for n in range(2)]
    expected, decode = alone(answerer, requests[0]), PromptTokenizer.decode

    def decode_but_five(self, ids):
        if len(ids) == 5:
            raise UnicodeDecodeError("utf-8", b"", 0, 1, "no text")
        return decode(self, ids)

    monkeypatch.setattr(PromptTokenizer, "decode", decode_but_five)

    finished, error = run(engine, requests)

    assert finished.answer == expected
    assert isinstance(error, UnicodeDecodeError)


def test_a_model_that_always_fails_stops_the_engine(answerer, engine, monkeypatch):
    break_forward(answerer, monkeypatch, lambda positions: True)
    events = queue.Queue()

    engine.submit(request(1), events.put)

    assert str(collect(events)[1]) == "out of memory"
    until(lambda: engine._closed and not engine._entries)
    with pytest.raises(EngineError, match="has stopped: RuntimeError"):
        engine.check_health()
    with pytest.raises(EngineError, match="has stopped"):
        engine.submit(request(1), events.put)


@pytest.mark.parametrize("stop", [SystemExit, RuntimeError])
def test_whatever_ends_the_thread_every_request_gets_an_error(engine, monkeypatch, stop):
    started, resume = threading.Event(), threading.Event()

    def end():
        started.set()
        resume.wait(30)
        raise stop

    monkeypatch.setattr(engine._batch, "step", end)
    running, waiting = request(1), [request(n) for n in range(2, 9)]
    queues = {one: queue.Queue() for one in (running, *waiting)}
    engine.submit(running, queues[running].put)
    assert started.wait(30)
    for one in waiting:
        engine.submit(one, queues[one].put)
    resume.set()

    errors = {one: collect(queues[one])[1] for one in queues}

    assert all(isinstance(error, EngineError) for error in errors.values())
    assert [errors[one].in_flight for one in (running, *waiting)] == [True] + [False] * 7
    with pytest.raises(EngineError, match=stop.__name__):
        engine.check_health()


def test_a_listener_that_ends_the_thread_keeps_no_error_from_others(engine):
    events = queue.Queue()

    def exits(event):
        raise SystemExit

    engine.submit(request(1), exits)
    try:
        engine.submit(request(2, max_new_tokens=400), events.put)
    except EngineError:
        return  # it had stopped already

    assert isinstance(collect(events)[1], EngineError)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e29])
def test_an_embedding_that_is_not_finite_is_refused_at_once(engine, bad):
    embedding_C = embedding(1)
    embedding_C[3] = bad

    with pytest.raises(AnswerError, match="not finite") as caught:
        engine.submit(replace(request(1), embedding_C=embedding_C), lambda event: None)

    assert caught.value.code == "not_finite"


def test_a_prompt_beyond_the_models_positions_is_refused_at_once(engine, answerer):
    left = answerer.model.max_positions - answerer.count_prompt(
        answerer.prompts.after(request(1).instruction)
    )

    with pytest.raises(
        AnswerError, match=f"answer of up to {left + 1} are 513, .* has 512 positions"
    ) as caught:
        engine.submit(request(1, max_new_tokens=left + 1), lambda event: None)

    assert caught.value.code == "prompt_too_long"
    assert isinstance(run(engine, [request(1, profile="fast", max_new_tokens=left)])[0], Generation)


def test_closing_ends_open_requests_with_an_error(answerer):
    engine, events = BatchingEngine(answerer, max_requests=1), queue.Queue()
    engine.submit(request(1, max_new_tokens=400), events.put)

    engine.close()

    assert isinstance(collect(events)[1], EngineError)


def test_santa_can_be_left_out_or_given_other_numbers(answerer):
    own, off = answerer.move(embedding(1)[None]), answerer.move(embedding(1)[None], santa=False)
    replaced = answerer.move(embedding(1)[None], santa=SantaOptions(mix=0))

    assert (off == np.array(embedding(1))).all()
    assert not np.allclose(own, off)
    np.testing.assert_allclose(replaced[0], embedding(1) / np.linalg.norm(embedding(1)), rtol=1e-5)


def test_another_bridge_moves_embeddings_and_has_no_numbers_of_santa(answerer):
    shift = MeanShift(torch.ones(answerer.bridge.dim), torch.zeros(answerer.bridge.dim))
    other = Answerer(**vars_of(answerer) | {"bridge": shift})

    moved, off = other.move(embedding(1)[None]), other.move(embedding(1)[None], santa=False)

    assert torch.equal(moved, shift.transfer(torch.from_numpy(embedding(1))[None]))
    assert (off == np.array(embedding(1))).all()
    with pytest.raises(ConfigError, match="its bridge is 'mean_shift'"):
        other.move(embedding(1)[None], santa=SantaOptions(mix=0))


def vars_of(answerer):
    return {name: getattr(answerer, name) for name in answerer.__dataclass_fields__}


def test_requests_submitted_together_are_read_in_one_pass(answerer, engine, monkeypatch):
    passes = break_forward(answerer, monkeypatch, lambda positions: False)

    generations = generate(engine, [request(n, profile="fast", max_new_tokens=3) for n in range(4)])

    assert passes[0] == 4
    assert all(one.batch_size == 4 for one in generations if one.answer.num_tokens == 3)


def test_one_of_many_that_cannot_be_answered_is_an_error_in_its_place(answerer, engine):
    bad = replace(request(1), embedding_C=np.full(CLAP_DIM, np.nan, np.float32))

    first, error, last = generate(engine, [request(1), bad, request(2)])

    assert isinstance(error, AnswerError)
    assert [first.answer, last.answer] == [alone(answerer, request(n)) for n in (1, 2)]


def test_an_idle_engine_has_no_thread_and_starts_another(answerer, engine, monkeypatch):
    monkeypatch.setattr(batching, "_IDLE_SECONDS", 0.01)
    generate(engine, [request(1)])
    first = engine._thread

    until(lambda: engine._thread is None)
    first.join(timeout=30)

    assert isinstance(generate(engine, [request(1)])[0], Generation)
    engine.check_health()


def test_a_stream_that_is_left_frees_its_place(engine):
    deltas = stream(engine, request(1, max_new_tokens=400))

    next(deltas)
    deltas.close()

    until(lambda: engine.load().running == 0)


@pytest.mark.parametrize("profile", ["fast", "paper"])
def test_a_model_whose_cache_is_unknown_answers_whole(answerer, engine, monkeypatch, profile):
    requests = [request(n, profile=profile, max_new_tokens=6) for n in range(3)]
    expected = [alone(answerer, one) for one in requests]
    monkeypatch.setattr(MATS, "can_step", False)

    assert [one.answer for one in generate(engine, requests)] == expected
    (error,) = generate(engine, [request(1, temperature=1.0)])
    assert "does not sample" in str(error)


def test_the_id_of_an_open_request_is_refused(engine):
    one = request(1, max_new_tokens=400)
    engine.submit(one, lambda event: None)

    with pytest.raises(ValueError, match=one.id):
        engine.submit(one, lambda event: None)
