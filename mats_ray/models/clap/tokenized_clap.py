"""CLAP on towers of our own whose text tower reads token ids: what mel and waveform families share.

Shapes: N texts, B batch, T tokens, C joint space.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize as unit

from mats_ray.models.clap.encoder import CLAP
from mats_ray.models.clap.settings import ClipSettings
from mats_ray.models.clap.tokens import TextTokens
from mats_ray.types import CLAPIdentity


class TokenizedTowers(nn.Module, ABC):
    """Audio and text tower: embeddings as the projection heads give them, not normalised."""

    dim: int
    """C, width of the joint space."""

    @abstractmethod
    def embed_text(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return (B, C)."""


TowersT = TypeVar("TowersT", bound=TokenizedTowers)


class TokenizedCLAP(CLAP, Generic[TowersT]):
    """Two frozen towers and a tokenizer."""

    def __init__(
        self, towers: TowersT, *, clips: ClipSettings, tokens: TextTokens, identity: CLAPIdentity
    ) -> None:
        super().__init__(clips=clips, identity=identity)
        self.towers = towers.eval().requires_grad_(requires_grad=False)
        self.tokens = tokens

    def to(self, device: torch.device | str) -> Self:
        """Move both towers."""
        self.towers.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.towers.parameters()).device

    def _embed_texts(self, texts: Sequence[str], *, batch_size: int) -> Tensor:
        rows = self.tokens(texts) if texts else []
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        embeddings_NC = torch.empty(len(rows), self.dim, device=self.device)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            ids_BT, mask_BT = self.tokens.pad([rows[index] for index in batch])
            embeddings_NC[batch] = self.encode_tokens(ids_BT, mask_BT, normalize=False)
        return embeddings_NC

    @torch.inference_mode()
    def encode_tokens(self, ids_BT: Tensor, mask_BT: Tensor, *, normalize: bool = True) -> Tensor:
        """Embed token ids, special tokens included and padded on the right: (B, T) int64 -> (B, C)."""
        embeddings_BC = self.towers.embed_text(ids_BT.to(self.device), mask_BT.to(self.device))
        return unit(embeddings_BC, dim=-1) if normalize else embeddings_BC
