"""What the service is put together from: records that go in and out, protocols for what stands behind it."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mats_ray.config.answer import AnswerOptions
from mats_ray.serving.windows import Window
from mats_ray.types import Answer, AudioClip


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Which model answers."""

    id: str
    created: int
    """Unix seconds."""
    version: str = ""
    """Changes with whatever may change an answer, so also with the decoding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file as it arrived."""

    data: bytes
    name: str


@dataclass(frozen=True, eq=False, slots=True)
class Embedded:
    """Embeddings, and where they come from: while a new model rolls out there may be two encoders."""

    vectors: np.ndarray
    """(C,) of a clip, (N, C) of labels; float32."""
    space: str = ""
    """Embeddings of two spaces have nothing to do with each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An answer as the model's replica gives it."""

    answer: Answer
    by: ModelCard | None = None
    """Who said it; while a new model rolls out, not always the same."""
    prompt_tokens: int = 0
    waited_seconds: float = 0.0
    """In the replica, until its first token was computed."""
    batch_size: int = 1
    """Answers under way with it when it was complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request for words about a sound."""

    upload: Upload
    question: str | None = None
    """None: describe it."""
    options: AnswerOptions = field(default_factory=AnswerOptions)
    window: float | None = None
    """Seconds; None: the sound as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer and what it took."""

    answer: Answer
    model: str
    audio_seconds: float
    prompt_tokens: int = 0
    windows: tuple[tuple[Window, Told], ...] = ()
    """What was told of each window; one, the whole, without windows."""


class Encoder(Protocol):
    """Sounds and labels to embeddings."""

    async def encode(self, clip: AudioClip) -> Embedded:
        """Embed one clip: (C,) float32."""
        ...

    async def encode_labels(self, labels: Sequence[str]) -> Embedded:
        """Embed texts: (N, C) float32."""
        ...


class Answerer(Protocol):
    """Embeddings and instructions to text."""

    async def answer(self, embedded: Embedded, instruction: str, options: AnswerOptions) -> Told:
        """Answer one instruction about one embedding (C,).

        Raises:
            RequestError: ``rolling_out``: the embedding is another model's.
        """
        ...

    def stream(
        self, embedded: Embedded, instruction: str, options: AnswerOptions
    ) -> AsyncIterator[ModelCard | str | Told]:
        """Answer in pieces that add up to the answer; the first item says who speaks, the last is the whole.

        Raises:
            RequestError: As for ``answer``, before the first piece.
        """
        ...

    async def describe(self) -> ModelCard:
        """Say which model this is."""
        ...


class Decoder(Protocol):
    """Bytes to samples."""

    async def decode(self, data: bytes, *, name: str) -> AudioClip:
        """Decode one file.

        Raises:
            AudioError: It is no audio, broken, empty, or over a limit.
        """
        ...

    def close(self) -> None:
        """End what decodes."""
        ...
