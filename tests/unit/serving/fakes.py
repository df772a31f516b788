"""Stand-ins at the service's edges: no model, no codec."""

import asyncio
import threading

import numpy as np

from mats_ray.errors import AudioError
from mats_ray.serving.consistency import check_space
from mats_ray.serving.types import AnswerDelta, AnswerResult, Embedding, ModelCard
from mats_ray.types import Answer, AudioClip

CARD = ModelCard(id="toy-0123", created=1_700_000_000, version="1")


class FakeDecoder:
    """``seconds:2`` is two seconds of sound; ``error:empty`` fails as an empty file; a wav lasts 0.5 s."""

    def __init__(self):
        self.closed = False

    async def decode(self, data, *, name):
        kind, _, value = ("seconds", "", "0.5") if data[:4] == b"RIFF" else data.decode().partition(":")
        if kind == "error":
            raise AudioError(f"{name}: {value}", code=value)
        return AudioClip(samples=np.zeros(int(float(value) * 8000), np.float32), sample_rate=8000, name=name)

    def close(self):
        self.closed = True


class FakeEncoder:
    """The embedding is the clip's length; an error to raise, a gate to wait at, other spaces at first."""

    def __init__(self):
        self.spaces = []
        self.error = None
        self.gate = None
        self.arrived = threading.Semaphore(0)

    async def encode(self, clip):
        self.arrived.release()
        if self.gate is not None:
            await asyncio.to_thread(self.gate.wait)
        if self.error is not None:
            raise self.error
        return Embedding(np.array([clip.seconds], np.float32), self.spaces.pop(0) if self.spaces else "")

    async def encode_labels(self, labels):
        return Embedding(np.array([[1.0 if label == "dog" else -1.0] for label in labels], np.float32))


class FakeAnswerer:
    """Answers instruction and embedding, a word per delta; an error to raise midway, other cards at first."""

    def __init__(self):
        self.cards = []
        self.card = CARD
        self.error = None
        self.options = []
        self.num_closed_streams = 0

    async def answer(self, embedding, instruction, options):
        self.options.append(options)
        check_space(embedding, "")
        return result(embedding, instruction, model=self.cards.pop(0) if self.cards else self.card)

    async def stream(self, embedding, instruction, options):
        self.options.append(options)
        check_space(embedding, "")
        whole = result(embedding, instruction, model=self.card)
        try:
            for number, word in enumerate(whole.answer.text.split(" ")):
                yield AnswerDelta(f" {word}" if number else word, whole.model)
                if self.error is not None:
                    raise self.error
            yield whole
        finally:
            self.num_closed_streams += 1

    async def describe(self):
        return self.card


def result(embedding, instruction, *, model):
    answer = Answer(text=f"{instruction} {embedding.vectors[0]:g}", num_tokens=3, finish_reason="stop")
    return AnswerResult(answer=answer, model=model, prompt_tokens=40, queue_seconds=0.01, batch_size=2)
