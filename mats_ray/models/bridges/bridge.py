"""What a bridge is: it moves audio embeddings to the text side of CLAP's space, where the mapper has learnt.

Shapes: B audio batch, C CLAP dim.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mats_ray.config.bridge import BridgeName


class Bridge(ABC):
    """A fitted bridge: state and numbers together, on one device."""

    name: BridgeName

    @property
    @abstractmethod
    def dim(self) -> int | None:
        """C; None: any."""

    @abstractmethod
    def transfer(self, audio_BC: Tensor) -> Tensor:
        """Move audio embeddings.

        Args:
            audio_BC: (B, C) of any float type and length; B may be 0.

        Returns:
            (B, C) float32. Nothing is drawn, and a row does not depend on the others, to the last bit.

        Raises:
            ValueError: The embeddings are of another width than the bridge.
        """

    @abstractmethod
    def to(self, device: torch.device | str) -> "Bridge":
        """Return a copy on another device."""

    @abstractmethod
    def description(self) -> str:
        """Write its numbers in a few words."""


class NoBridge(Bridge):
    """Audio embeddings stay where they are, and as long."""

    name = "none"

    @property
    def dim(self) -> None:
        """Any."""
        return

    def transfer(self, audio_BC: Tensor) -> Tensor:
        """Return the embeddings."""
        return audio_BC.float()

    def to(self, device: torch.device | str) -> "NoBridge":  # noqa: ARG002
        """Return the same: there is no state."""
        return self

    def description(self) -> str:
        """Write as reports do where Santa is off."""
        return "off"


def moved_row_by_row(audio_BC: Tensor, dim: int, move: Callable[[Tensor], Tensor]) -> Tensor:
    """Move unit vectors one by one, and put them back on the unit sphere.

    A product of one matrix with many rows differs in its last bits with their number; with one row each it
    does not, and a row in memory of its own is aligned in the same way in any batch.

    Args:
        audio_BC: See ``Bridge.transfer``; normalised here.
        dim: C of the bridge.
        move: (C,) to (C,).

    Raises:
        ValueError: The embeddings are of another width.
    """
    if audio_BC.shape[-1] != dim:
        raise ValueError(f"embeddings are {audio_BC.shape[-1]}-d, the bridge is {dim}-d")
    if not len(audio_BC):
        return audio_BC.float()
    return torch.stack(
        [normalize(move(normalize(row_C.float().clone(), dim=0)), dim=0) for row_C in audio_BC]
    )
