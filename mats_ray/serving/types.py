"""Records that go into and out of the service, and the protocols of what it calls.

A request is an ``AnswerRequest``, for the engine an ``infer`` request; back come the engine's events, an
``AnswerResult`` for each window, an ``AnswerResponse`` for the whole.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mats_ray.config.answer import AnswerOptions
from mats_ray.types import Answer, AudioClip


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Identity of the model that answers."""

    id: str
    created: int
    """Unix seconds."""
    version: str = ""
    """Changes with everything that may change an answer, so also with the generation settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An audio file as it arrived."""

    data: bytes
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipWindow:
    """A part of a clip."""

    clip: AudioClip
    start_seconds: float
    end_seconds: float

    @property
    def times(self) -> str:
        """Start and end, as written before the window's answer."""
        return f"[{self.start_seconds:.1f}-{self.end_seconds:.1f} s]"


@dataclass(frozen=True, eq=False, slots=True)
class Embedding:
    """Vectors and the CLAP that computed them: during a roll-out there may be two encoders."""

    vectors: np.ndarray
    """(C,) of a clip, (N, C) of labels; float32."""
    space: str = ""
    """Identity of the CLAP; embeddings of two spaces cannot be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRequest:
    """A question about a sound."""

    upload: Upload
    question: str | None = None
    """None: describe the sound."""
    options: AnswerOptions = field(default_factory=AnswerOptions)
    window_seconds: float | None = None
    """None: one answer about the whole sound."""


@dataclass(frozen=True, slots=True)
class AnswerDelta:
    """The next piece of an answer that is streamed."""

    text: str
    model: ModelCard
    """The same in all deltas of a response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerResult:
    """Answer of one model replica about one window."""

    answer: Answer
    model: ModelCard
    """During a roll-out results may be of two models."""
    prompt_tokens: int = 0
    queue_seconds: float = 0.0
    """Time in the replica until the prompt was computed."""
    batch_size: int = 1
    """Number of answers in the batch when this one was complete, itself included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerResponse:
    """Answer to a request."""

    answer: Answer
    model: ModelCard
    audio_seconds: float
    prompt_tokens: int
    windows: tuple[tuple[ClipWindow, AnswerResult], ...]
    """One, the whole clip, unless windows were requested."""


AnswerEvents = AsyncGenerator[AnswerDelta | AnswerResult, None]
"""A streamed answer: its deltas, then the result."""


class EncoderClient(Protocol):
    """Computes CLAP embeddings, here or in another process."""

    async def encode(self, clip: AudioClip) -> Embedding:
        """Embed one clip: (C,) float32."""
        ...

    async def encode_labels(self, labels: Sequence[str]) -> Embedding:
        """Embed texts: (N, C) float32."""
        ...


class AnswererClient(Protocol):
    """Generates answers, here or in another process."""

    async def answer(self, embedding: Embedding, instruction: str, options: AnswerOptions) -> AnswerResult:
        """Answer one instruction about one embedding (C,).

        Raises:
            RequestError: ``rolling_out``: another CLAP than this model's has computed the embedding.
        """
        ...

    def stream(self, embedding: Embedding, instruction: str, options: AnswerOptions) -> AnswerEvents:
        """Yield the answer in deltas, then the result.

        Raises:
            RequestError: As for ``answer``, before the first delta.
        """
        ...

    async def describe(self) -> ModelCard:
        """Return the identity of the model that answers now."""
        ...


class AudioDecoder(Protocol):
    """Decodes audio files."""

    async def decode(self, data: bytes, *, name: str) -> AudioClip:
        """Decode one file.

        Raises:
            AudioError: It is no audio, broken, empty, or over a limit.
        """
        ...

    def close(self) -> None:
        """Free what decoding uses."""
        ...
