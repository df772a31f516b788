"""One answer in pieces, through the pipeline."""

import numpy as np
import pytest

from mats_ray.config.answer import AnswerOptions
from mats_ray.infer.pipeline import MATSPipeline
from mats_ray.tasks import Task
from mats_ray.types import AudioClip, Request

CLIP = AudioClip(
    samples=np.random.default_rng(0).uniform(-0.5, 0.5, 8000).astype(np.float32), sample_rate=16_000
)
QUESTION = Request(audio=CLIP, task=Task.QA, question="Is there a dog?")


@pytest.fixture(scope="module")
def pipeline(model_dir):
    return MATSPipeline.from_pretrained(model_dir)


def test_a_stream_is_the_answer_in_pieces(pipeline):
    deltas = list(pipeline.stream(QUESTION))

    assert "".join(delta.text for delta in deltas) == deltas[-1].answer.text
    assert deltas[-1].answer == pipeline.ask(CLIP, QUESTION.question)
    assert len(deltas) > 2


def test_the_same_seed_draws_the_same_answer(pipeline):
    def text_of(seed):
        return list(pipeline.stream(QUESTION, AnswerOptions(temperature=1.5, seed=seed)))[-1].answer.text

    assert text_of(1) == text_of(1)
    assert len({text_of(seed) for seed in range(5)}) > 1


def test_a_stop_text_ends_a_stream(pipeline):
    whole = pipeline.ask(CLIP, QUESTION.question).text
    stop = whole[4:7]

    *_, last = pipeline.stream(QUESTION, AnswerOptions(stop=(stop,)))

    assert last.answer.text == whole[: whole.index(stop)].rstrip()
    assert last.answer.finish_reason == "stop"


def test_the_prompt_is_counted_with_its_prefix(pipeline):
    instruction = "Is there a dog?"
    answerer = pipeline.answerer

    spliced = answerer.model.prompt(answerer.move(np.ones((1, 24))), [answerer.prompts.after(instruction)])

    assert answerer.count_prompt(instruction) == int(spliced.mask_BS.sum())
