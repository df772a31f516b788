"""Records that cross the borders between layers. Standard library only, so arrays are typed loosely."""

from dataclasses import dataclass
from typing import Any

from mats_ray.tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Triplet:
    """One (text, instruction, answer) sample of AudioTIA: the text takes the place of the audio."""

    id: str
    """Source and row, so the same each time the source is read."""
    text: str
    instruction: str
    answer: str
    task: Task
    source: str
    split: str
    license: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioClip:
    """Decoded mono audio."""

    samples: Any
    """numpy float32 (num_samples,), nominal range [-1, 1]."""
    sample_rate: int
    name: str = "audio"
    """Name in error messages: a path, an object key, an upload's file name."""

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question about one clip."""

    audio: AudioClip
    task: Task = Task.CAPTION
    question: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Generated text."""

    text: str
    num_tokens: int
    """Number of generated tokens."""
    finish_reason: str
    """"stop" (the model ended its answer) or "length" (cut at max_new_tokens)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CLAPIdentity:
    """Identity of the CLAP that computed an embedding; stored with it and checked before it is used."""

    family: str
    """"transformers", "laion", "msclap" or "pe_audio"."""
    checkpoint_hash: str
    """First 16 hex digits of the SHA-256 over the weight tensors' file."""
    dim: int

    def __str__(self) -> str:
        """Describe the CLAP in an error message."""
        return f"{self.family} CLAP {self.checkpoint_hash} ({self.dim}-d)"
