"""Stand-ins at the service's edges: no model, no codec."""

import asyncio
import threading

import numpy as np

from mats_ray.errors import AudioError
from mats_ray.serving.parts import ModelCard, Told
from mats_ray.types import Answer, AudioClip


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
    """The embedding is the clip's length; an error to raise, a gate to wait at."""

    def __init__(self):
        self.error = None
        self.gate = None
        self.arrived = threading.Semaphore(0)

    async def encode(self, clip):
        self.arrived.release()
        if self.gate is not None:
            await asyncio.to_thread(self.gate.wait)
        if self.error is not None:
            raise self.error
        return np.array([clip.seconds], np.float32)

    async def encode_labels(self, labels):
        return np.array([[1.0 if label == "dog" else -1.0] for label in labels], np.float32)


class FakeAnswerer:
    """Says the instruction and the embedding, a word at a time; an error to raise midway."""

    def __init__(self):
        self.error = None
        self.asked = []
        self.left = 0

    async def answer(self, embedding, instruction, options):
        self.asked.append(options)
        return told(embedding, instruction)

    async def stream(self, embedding, instruction, options):
        self.asked.append(options)
        whole = told(embedding, instruction)
        try:
            for number, word in enumerate(whole.answer.text.split(" ")):
                yield f" {word}" if number else word
                if self.error is not None:
                    raise self.error
            yield whole
        finally:
            self.left += 1

    async def describe(self):
        return ModelCard(id="toy-0123", created=1_700_000_000)


def told(embedding, instruction):
    answer = Answer(text=f"{instruction} {embedding[0]:g}", num_tokens=3, finish_reason="stop")
    return Told(answer=answer, prompt_tokens=40, waited_seconds=0.01, batch_size=2)
