"""Projection onto a text support, as in DRCap (arXiv 2410.09472) and DeCap (arXiv 2303.03032).

The mean of all texts of the support, weighted by their similarity to the audio; the audio itself is left out.
The support is the rows of a Santa memory, without clusters. Shapes: N texts, B audio batch, C CLAP dim.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mats_ray.config.bridge import ProjectionConfig
from mats_ray.models.bridges.bridge import Bridge, moved_row_by_row
from mats_ray.models.santa import SantaMemory, soft_weights


@dataclass(frozen=True, eq=False)
class Projection(Bridge):
    """z' = norm(sum_i w_i m_i), w = softmax(norm(z) . m_i / tau) over the whole support.

    Raises:
        ValueError: The support is empty.
    """

    support_NC: Tensor
    """Unit vectors."""
    numbers: ProjectionConfig = field(default_factory=ProjectionConfig)
    name = "projection"

    def __post_init__(self) -> None:
        """Refuse a support without texts: there would be nothing to project onto."""
        if not len(self.support_NC):
            raise ValueError("the text support of a projection is empty")

    @classmethod
    def onto(cls, memory: SantaMemory, numbers: ProjectionConfig) -> "Projection":
        """Project onto all rows of a memory; if they are noised, so is the support."""
        return cls(memory.embeddings_NC, numbers)

    @property
    def dim(self) -> int:
        """C."""
        return self.support_NC.shape[1]

    def transfer(self, audio_BC: Tensor) -> Tensor:
        """See ``Bridge.transfer``; the results are unit vectors. Each reads the support twice."""
        return moved_row_by_row(audio_BC, self.dim, self._project)

    def _project(self, audio_C: Tensor) -> Tensor:
        weights_N = soft_weights(self.support_NC @ audio_C, self.numbers.temperature)
        return weights_N @ self.support_NC

    def to(self, device: torch.device | str) -> "Projection":
        """See ``Bridge.to``."""
        return Projection(self.support_NC.to(device), self.numbers)

    def description(self) -> str:
        """See ``Bridge.description``."""
        return f"projection onto {len(self.support_NC)} texts, tau={self.numbers.temperature:g}"
