"""Spectral truncation after COMET (arXiv 2605.29628): the few axes that audio and text vary along together.

PLS-SVD of paired embeddings: the singular vectors of the cross-covariance of centred audio and centred text
are pairs of axes, one in each modality. It needs a few pairs of audio and text, so a model with this bridge
is not made of text alone. What of it is COMET's: docs/fidelity.md.

Shapes: P pairs, K axes, B audio batch, C CLAP dim.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mats_ray.config.bridge import SpectralConfig
from mats_ray.models.bridges.bridge import Bridge, moved_row_by_row
from mats_ray.models.bridges.mean_shift import mean_of_units
from mats_ray.models.bridges.state_file import load_state, save_state

MAX_AXES = 1024
"""Most axes that are stored."""
_TENSORS = {
    "text_mean_C": ("text_mean", "C"),
    "audio_mean_C": ("audio_mean", "C"),
    "text_axes_KC": ("text_axes", "KC"),
    "audio_axes_KC": ("audio_axes", "KC"),
    "covariance_K": ("covariance", "K"),
}
"""Name in the file, and letters of the dimensions, of each field that is a tensor."""
_SMALLEST = 1e-9
"""Axes whose covariance is below this share of the largest one's are rounding."""


@dataclass(frozen=True, eq=False)
class Spectral(Bridge):
    """z' = norm(mean of texts + V_k U_k^T (norm(z) - mean of audio)): audio's coefficients on text's axes."""

    text_mean_C: Tensor
    audio_mean_C: Tensor
    text_axes_KC: Tensor
    """V: unit vectors, those of the largest covariance first."""
    audio_axes_KC: Tensor
    """U: the axis in audio of each axis in text."""
    covariance_K: Tensor
    provenance: dict[str, str] = field(default_factory=dict[str, str])
    numbers: SpectralConfig = field(default_factory=SpectralConfig)
    name = "spectral"

    @classmethod
    def fit(
        cls,
        audio_PC: Tensor,
        text_PC: Tensor,
        *,
        numbers: SpectralConfig | None = None,
        provenance: dict[str, str] | None = None,
    ) -> "Spectral":
        """Find the axes of pairs: row p of both belongs together. P pairs have at most P - 1 axes.

        Raises:
            ValueError: Fewer than two pairs, different shapes, or all pairs are alike.
        """
        if audio_PC.shape != text_PC.shape or len(audio_PC) < 2:
            raise ValueError(
                f"a spectral bridge needs at least 2 pairs of one width, not {tuple(audio_PC.shape)} and "
                f"{tuple(text_PC.shape)}"
            )
        audio_mean_C, text_mean_C = mean_of_units(audio_PC), mean_of_units(text_PC)
        centred_A, centred_T = (
            normalize(rows.double(), dim=-1) - mean.double()
            for rows, mean in ((audio_PC, audio_mean_C), (text_PC, text_mean_C))
        )
        left_CK, covariance_K, right_KC = torch.linalg.svd(centred_A.T @ centred_T / len(audio_PC))
        first = float(covariance_K[0])
        count = min(int((covariance_K > _SMALLEST * first).sum()), len(audio_PC) - 1, MAX_AXES)
        if first <= _SMALLEST or not count:
            raise ValueError(f"{len(audio_PC)} pairs have no axis in common: they are all alike")
        return cls(
            text_mean_C,
            audio_mean_C,
            right_KC[:count].float().contiguous(),
            left_CK.T[:count].float().contiguous(),
            covariance_K[:count].float(),
            dict(provenance or {}),
            numbers or SpectralConfig(),
        )

    @property
    def dim(self) -> int:
        """C."""
        return len(self.text_mean_C)

    @property
    def num_axes(self) -> int:
        """Number of axes that are kept."""
        return min(self.numbers.num_axes, len(self.covariance_K))

    def transfer(self, audio_BC: Tensor) -> Tensor:
        """See ``Bridge.transfer``; the results are unit vectors."""
        kept = slice(self.num_axes)
        text_CK, audio_KC = self.text_axes_KC[kept].T.contiguous(), self.audio_axes_KC[kept]

        def move(audio_C: Tensor) -> Tensor:
            return self.text_mean_C + text_CK @ (audio_KC @ (audio_C - self.audio_mean_C))

        return moved_row_by_row(audio_BC, self.dim, move)

    def to(self, device: torch.device | str) -> "Spectral":
        """See ``Bridge.to``."""
        tensors = {name: getattr(self, name).to(device) for name in _TENSORS}
        return replace(self, **tensors)

    def description(self) -> str:
        """See ``Bridge.description``."""
        return f"spectral, {self.num_axes} axes of {self.provenance.get('pairs', '?')} pairs"

    def save(self, path: str | Path) -> None:
        """Write one safetensors file."""
        tensors = {stored: getattr(self, name) for name, (stored, _) in _TENSORS.items()}
        save_state(path, "spectral", tensors, self.provenance)

    @classmethod
    def load(cls, path: str | Path, numbers: SpectralConfig | None = None) -> "Spectral":
        """Read a file written by ``save``.

        Raises:
            ModelError: See ``load_state``.
        """
        tensors, provenance = load_state(path, "spectral", dict(_TENSORS.values()))
        fields = {name: tensors[stored] for name, (stored, _) in _TENSORS.items()}
        return cls(**fields, provenance=provenance, numbers=numbers or SpectralConfig())
