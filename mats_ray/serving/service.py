"""From an upload and a question to an answer. Knows neither Ray nor HTTP.

The model stands behind two small protocols, so that it can live in other processes, or be a fake.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from mats_ray.serving.problems import RequestError
from mats_ray.tasks import Task, instruction_for
from mats_ray.types import Answer, AudioClip


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Which model answers."""

    id: str
    created: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file as it arrived."""

    data: bytes
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer and what it took."""

    answer: Answer
    model: str
    audio_seconds: float


class Encoder(Protocol):
    """Clips to embeddings."""

    async def encode(self, clip: AudioClip) -> np.ndarray:
        """Embed one clip: (C,) float32."""
        ...


class Answerer(Protocol):
    """Embeddings and instructions to text."""

    async def answer(self, embedding: np.ndarray, instruction: str) -> Answer:
        """Answer one instruction about one embedding (C,)."""
        ...

    async def describe(self) -> ModelCard:
        """Say which model this is."""
        ...


class Decode(Protocol):
    """Bytes to samples; blocks."""

    def __call__(self, data: bytes, *, name: str) -> AudioClip:
        """Decode one file.

        Raises:
            AudioError: It is no audio, broken, empty, or over a limit.
        """
        ...


class AudioService:
    """Answers one request at a time; batching is the business of the encoder and the answerer.

    Args:
        encoder: The first half of the model.
        answerer: The second half.
        decode: Runs on threads of its own, off the event loop.
        decode_threads: How many.
        max_question_characters: Longer questions are refused.
    """

    def __init__(
        self,
        encoder: Encoder,
        answerer: Answerer,
        *,
        decode: Decode,
        decode_threads: int = 2,
        max_question_characters: int = 1000,
    ) -> None:
        self._encoder = encoder
        self._answerer = answerer
        self._decode = decode
        self._threads = ThreadPoolExecutor(decode_threads, thread_name_prefix="decode")
        self._max_question_characters = max_question_characters
        self._card: ModelCard | None = None

    async def caption(self, upload: Upload) -> Reply:
        """Describe an uploaded sound.

        Raises:
            AudioError: The upload cannot be used.
            RequestError: The model cannot be reached, or has too much to do.
        """
        return await self._reply(upload, instruction_for(Task.CAPTION))

    async def ask(self, upload: Upload, question: str) -> Reply:
        """Answer a question about an uploaded sound.

        Raises:
            AudioError: The upload cannot be used.
            RequestError: As for ``caption``; or the question is empty or too long.
        """
        if not question.strip():
            raise RequestError("the question is empty", code="missing_field", param="question")
        if len(question) > self._max_question_characters:
            raise RequestError(
                f"the question has {len(question)} characters, at most "
                f"{self._max_question_characters} are allowed",
                code="invalid_field",
                param="question",
            )
        return await self._reply(upload, instruction_for(Task.QA, question))

    async def model(self) -> ModelCard:
        """Say which model answers."""
        if self._card is None:
            self._card = await self._answerer.describe()
        return self._card

    async def warm_up(self) -> ModelCard:
        """Answer one request end to end, about a sound of our own."""
        await self._answer(WARM_UP_CLIP, instruction_for(Task.CAPTION))
        return await self.model()

    def close(self) -> None:
        """Stop the decoding threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _reply(self, upload: Upload, instruction: str) -> Reply:
        decode = partial(self._decode, upload.data, name=upload.name)
        clip = await asyncio.get_running_loop().run_in_executor(self._threads, decode)
        answer = await self._answer(clip, instruction)
        return Reply(answer=answer, model=(await self.model()).id, audio_seconds=clip.seconds)

    async def _answer(self, clip: AudioClip, instruction: str) -> Answer:
        return await self._answerer.answer(await self._encoder.encode(clip), instruction)


WARM_UP_CLIP = AudioClip(
    samples=(0.1 * np.sin(2 * np.pi * 220 / 16_000 * np.arange(8_000))).astype(np.float32),
    sample_rate=16_000,
    name="warm-up",
)
