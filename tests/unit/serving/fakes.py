"""Stand-ins at the service's edges: no model, no codec."""

import asyncio
import threading

import numpy as np

from mats_ray.errors import AudioError
from mats_ray.serving.service import ModelCard
from mats_ray.types import Answer, AudioClip


def fake_decode(data, *, name):
    """``seconds:2`` is two seconds of sound; ``error:empty`` fails as an empty file does."""
    kind, _, value = data.decode().partition(":")
    if kind == "error":
        raise AudioError(f"{name}: {value}", code=value)
    return AudioClip(samples=np.zeros(int(float(value) * 8000), np.float32), sample_rate=8000, name=name)


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


class FakeAnswerer:
    async def answer(self, embedding, instruction):
        return Answer(text=f"{instruction} {embedding[0]:g}", num_tokens=3, finish_reason="stop")

    async def describe(self):
        return ModelCard(id="toy-0123", created=1_700_000_000)
