"""Mean shift: add what lies between the mean of texts and the mean of audio (Liang et al., 2022).

It needs texts and audio, but no pairs. Shapes: N texts, M clips, B audio batch, C CLAP dim.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mats_ray.models.bridges.bridge import Bridge, moved_row_by_row
from mats_ray.models.bridges.state_file import load_state, save_state


@dataclass(frozen=True, eq=False)
class MeanShift(Bridge):
    """z' = norm(norm(z) + mean of texts - mean of audio), means of unit vectors."""

    text_mean_C: Tensor
    audio_mean_C: Tensor
    provenance: dict[str, str] = field(default_factory=dict[str, str])
    name = "mean_shift"

    @classmethod
    def fit(
        cls, text_NC: Tensor, audio_MC: Tensor, *, provenance: dict[str, str] | None = None
    ) -> "MeanShift":
        """Take the means of both sides; what text belongs to what audio plays no part.

        Raises:
            ValueError: One side is empty, or they are of different widths.
        """
        if not len(text_NC) or not len(audio_MC) or text_NC.shape[1] != audio_MC.shape[1]:
            raise ValueError(
                f"a mean shift needs texts and audio of one width, not {tuple(text_NC.shape)} and "
                f"{tuple(audio_MC.shape)}"
            )
        return cls(mean_of_units(text_NC), mean_of_units(audio_MC), dict(provenance or {}))

    @property
    def dim(self) -> int:
        """C."""
        return len(self.text_mean_C)

    def transfer(self, audio_BC: Tensor) -> Tensor:
        """See ``Bridge.transfer``; the results are unit vectors."""
        shift_C = self.text_mean_C - self.audio_mean_C
        return moved_row_by_row(audio_BC, self.dim, lambda audio_C: audio_C + shift_C)

    def to(self, device: torch.device | str) -> "MeanShift":
        """See ``Bridge.to``."""
        return MeanShift(self.text_mean_C.to(device), self.audio_mean_C.to(device), self.provenance)

    def description(self) -> str:
        """See ``Bridge.description``."""
        return "mean shift"

    def save(self, path: str | Path) -> None:
        """Write one safetensors file."""
        tensors = {"text_mean": self.text_mean_C, "audio_mean": self.audio_mean_C}
        save_state(path, "mean_shift", tensors, self.provenance)

    @classmethod
    def load(cls, path: str | Path) -> "MeanShift":
        """Read a file written by ``save``.

        Raises:
            ModelError: See ``load_state``.
        """
        tensors, provenance = load_state(path, "mean_shift", {"text_mean": "C", "audio_mean": "C"})
        return cls(tensors["text_mean"], tensors["audio_mean"], provenance)


def mean_of_units(rows_NC: Tensor) -> Tensor:
    """Mean of the rows as unit vectors, summed in float64: (C,) float32."""
    return normalize(rows_NC.double(), dim=-1).mean(dim=0).float()
