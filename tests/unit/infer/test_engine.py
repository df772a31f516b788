"""Many askers, one thread: each hears its own answer, the pipeline's, and may go away."""

import queue
import time

import numpy as np
import pytest

from mats_ray.config.answer import AnswerOptions, SantaOptions
from mats_ray.config.infer import GenerationConfig
from mats_ray.errors import ConfigError
from mats_ray.infer.conversation import Question
from mats_ray.infer.engine import AnswerEngine, Finished
from mats_ray.infer.pipeline import Answerer
from tests.world import CLAP_DIM


@pytest.fixture(scope="module")
def answerer(model_dir):
    return Answerer.from_pretrained(model_dir)


@pytest.fixture
def engine(answerer):
    engine = AnswerEngine(answerer, max_answers=3)
    yield engine
    engine.close()


def embedding(number):
    return np.random.default_rng(number).normal(size=CLAP_DIM).astype(np.float32)


def question(number, **options):
    return Question(
        embedding_C=embedding(number),
        instruction="rain? " * (number % 4 + 1),
        options=AnswerOptions(**options),
    )


def hear(heard):
    """Collect an answer: its text, and how it ended."""
    text = ""
    while True:
        said = heard.get(timeout=30)
        if not isinstance(said, str):
            return text, said
        text += said


def test_every_asker_hears_the_pipelines_answer(engine, answerer):
    profiles = ["fast", "paper"] * 5
    questions = [question(n, profile=profile, max_new_tokens=3 + n) for n, profile in enumerate(profiles)]
    heard = [queue.Queue() for _ in questions]

    for one, ears in zip(questions, heard, strict=True):
        engine.ask(one, ears.put)
    said = [hear(ears) for ears in heard]

    for n, (one, (text, finished)) in enumerate(zip(questions, said, strict=True)):
        generation = GenerationConfig(profile=profiles[n], max_new_tokens=3 + n)
        expected = answerer.answer(one.embedding_C[None], [one.instruction.strip()], generation=generation)
        assert (
            finished.answer
            == answerer.answer(one.embedding_C[None], [one.instruction], generation=generation)[0]
        )
        assert text == finished.answer.text
        assert expected
    assert max(finished.batch_size for _, finished in said) == 3
    assert max(finished.waited_seconds for _, finished in said) > 0
    assert (engine.load.answering, engine.load.waiting) == (0, 0)


def test_a_question_that_cannot_be_asked_fails_alone(engine, answerer, monkeypatch):
    good, bad = question(1), question(2, santa=True)
    without = AnswerEngine(Answerer(**vars_of(answerer) | {"memory": None}), max_answers=4)
    heard = {one: queue.Queue() for one in (good, bad)}

    for one, ears in heard.items():
        without.ask(one, ears.put)

    assert isinstance(hear(heard[good])[1], Finished)
    assert isinstance(hear(heard[bad])[1], ConfigError)
    without.close()


def test_who_goes_away_frees_its_place(engine):
    endless = [question(n, max_new_tokens=400) for n in range(3)]
    late, ears = question(5, max_new_tokens=2), queue.Queue()
    for one in endless:
        engine.ask(one, lambda said: None)
    engine.ask(late, ears.put)

    for one in endless:
        engine.forget(one)

    assert isinstance(hear(ears)[1], Finished)
    until = time.monotonic() + 20
    while engine.load.answering and time.monotonic() < until:
        time.sleep(0.01)
    assert engine.load.answering == 0


def test_a_failing_step_reaches_everybody_and_the_next_question_is_answered(engine, monkeypatch):
    def fail():
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine._conversation, "go_on", fail)
    ears = queue.Queue()
    engine.ask(question(1), ears.put)

    assert str(hear(ears)[1]) == "out of memory"

    engine.ask(question(1), ears.put)
    assert isinstance(hear(ears)[1], Finished)


def test_santa_can_be_left_out_or_given_other_numbers(answerer):
    own, off = answerer.move(embedding(1)[None]), answerer.move(embedding(1)[None], santa=False)
    replaced = answerer.move(embedding(1)[None], santa=SantaOptions(mix=0))

    assert (off == np.array(embedding(1))).all()
    assert not np.allclose(own, off)
    np.testing.assert_allclose(replaced[0], embedding(1) / np.linalg.norm(embedding(1)), rtol=1e-5)


def vars_of(answerer):
    return {name: getattr(answerer, name) for name in answerer.__dataclass_fields__}
