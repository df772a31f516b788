"""The two towers of a CLAP behind one pair of methods, whatever family they come from.

Shapes: B batch, T tokens, N mel channels (1, or 4 for LAION's fusion models), F frames, M mel bands,
C joint space.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn
from transformers import ClapModel


class Towers(nn.Module, ABC):
    """What the encoder asks of a model: embeddings as the projection heads give them, not normalised."""

    @abstractmethod
    def embed_text(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return (B, C)."""

    @abstractmethod
    def embed_audio(self, mel_BNFM: Tensor, is_longer_B: Tensor) -> Tensor:
        """Return (B, C)."""


class TransformersTowers(Towers):
    """``transformers.ClapModel``: HTSAT audio tower, RoBERTa text tower."""

    def __init__(self, clap: ClapModel) -> None:
        super().__init__()
        self.clap = clap

    def embed_text(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Project the state of the first token: (B, C)."""
        pooled_BH = self.clap.text_model(input_ids=ids_BT, attention_mask=mask_BT).pooler_output
        return self.clap.text_projection(pooled_BH)

    def embed_audio(self, mel_BNFM: Tensor, is_longer_B: Tensor) -> Tensor:
        """Project the pooled HTSAT state: (B, C)."""
        pooled_BH = self.clap.audio_model(
            input_features=mel_BNFM, is_longer=is_longer_B[:, None]
        ).pooler_output
        return self.clap.audio_projection(pooled_BH)
