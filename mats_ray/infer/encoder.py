"""Clips to CLAP embeddings: the first half of the pipeline, which may run in its own process."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mats_ray.errors import ModelError
from mats_ray.models.build import build_clap
from mats_ray.models.clap import CLAP
from mats_ray.models.clap.frontend import LongAudio
from mats_ray.models.directory import ModelInfo, read_info
from mats_ray.types import AudioClip, CLAPIdentity


class AudioEncoder:
    """Clips to CLAP embeddings.

    Args:
        clap: The encoder.
        expected: The CLAP the model was trained with.
        long_audio: Part of a clip longer than CLAP's window to embed.
        normalize: Scale embeddings to length 1; upstream's Santa uses them as CLAP computes them.

    Raises:
        ModelError: The CLAP at hand is not the one the model was trained with.
    """

    def __init__(
        self,
        clap: CLAP,
        *,
        expected: CLAPIdentity | None = None,
        long_audio: LongAudio = "windows",
        normalize: bool = True,
    ) -> None:
        if expected is not None and clap.identity != expected:
            raise ModelError(f"the model was trained with {expected}, the one found is {clap.identity}")
        self.clap = clap
        self.long_audio: LongAudio = long_audio
        self.normalize = normalize

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, device: str = "cpu") -> "AudioEncoder":
        """Load the CLAP a model directory refers to."""
        return cls.from_info(read_info(directory), device=device)

    @classmethod
    def from_info(cls, info: ModelInfo, *, device: str = "cpu") -> "AudioEncoder":
        """Load the CLAP of a model directory, its settings already read."""
        clap = build_clap(info.model.clap).to(device)
        return cls(
            clap,
            expected=info.clap,
            long_audio=info.model.clap.long_audio,
            normalize=info.santa.compat == "paper",
        )

    def encode(
        self, clips: Sequence[AudioClip], *, before_batch: Callable[[], None] = lambda: None
    ) -> np.ndarray:
        """Embed clips of any length and sample rate: (N, C) float32, L2-normalised if ``normalize`` is set.

        Args:
            clips: Any number.
            before_batch: Called before each forward pass; its exceptions end the call.

        Raises:
            AudioError: A clip is empty, or its samples or its embedding are not finite; its name is given.
        """
        embeddings = np.empty((len(clips), self.clap.dim), dtype=np.float32)
        rates = [clip.sample_rate for clip in clips]
        for rate in sorted(set(rates)):
            rows = [row for row, this in enumerate(rates) if this == rate]
            encoded = self.clap.encode_audio(
                [clips[row].samples for row in rows],
                rate,
                names=[clips[row].name for row in rows],
                long_audio=self.long_audio,
                normalize=self.normalize,
                before_batch=before_batch,
            )
            embeddings[rows] = encoded.cpu().numpy()
        return embeddings
