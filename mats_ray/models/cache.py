"""What a language model remembers of the rows of a batch, in a form that rows can be taken from.

Shapes: R rows, S columns of the key-value cache (padded left).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from mats_ray.errors import ModelError


class Rows:
    """Keys and values of every layer (R, heads, S, width), what is real, and each row's next token."""

    def __init__(
        self, layers: list[tuple[Tensor, Tensor]], mask_RS: Tensor, tokens_R1: Tensor | None = None
    ) -> None:
        self.layers, self.mask_RS = layers, mask_RS
        self.tokens_R1 = mask_RS.new_zeros(len(mask_RS), 1) if tokens_R1 is None else tokens_R1

    def __len__(self) -> int:
        """Number of rows, R."""
        return len(self.mask_RS)

    def selected(self, kept: list[int], tokens: list[int] | None = None) -> "Rows":
        """Return rows, in a new order or several times, without the columns that none of them uses.

        Args:
            kept: Indices; at least one.
            tokens: Next token of each; those they have by default.
        """
        device = self.mask_RS.device
        layers, mask_RS, tokens_R1 = self.layers, self.mask_RS, self.tokens_R1
        if kept != list(range(len(self))):
            index_R = torch.tensor(kept, dtype=torch.long, device=device)
            mask_RS, tokens_R1 = mask_RS[index_R], tokens_R1[index_R]
            first = int(mask_RS.any(dim=0).int().argmax())
            layers = [
                (k[:, :, first:].index_select(0, index_R), v[:, :, first:].index_select(0, index_R))
                for k, v in layers
            ]
            mask_RS = mask_RS[:, first:]
        if tokens is not None:
            tokens_R1 = torch.tensor(tokens, dtype=torch.long, device=device)[:, None]
        return Rows(layers, mask_RS, tokens_R1)

    def joined(self, other: "Rows") -> "Rows":
        """Put another batch's rows below; the shorter history is padded on its left."""
        length = max(self.mask_RS.shape[1], other.mask_RS.shape[1])
        ours, theirs = self._padded(length), other._padded(length)
        return Rows(
            [
                (torch.cat([k, other_k]), torch.cat([v, other_v]))
                for (k, v), (other_k, other_v) in zip(ours.layers, theirs.layers, strict=True)
            ],
            torch.cat([ours.mask_RS, theirs.mask_RS]),
            torch.cat([self.tokens_R1, other.tokens_R1]),
        )

    def step(self, llm: Any) -> tuple["Rows", Tensor]:
        """Let the language model read each row's next token; returns what it remembers then, and logits.

        Raises:
            ModelError: As for ``layers_of``.
        """
        mask_RS = pad(self.mask_RS, (0, 1), value=1)
        output = llm(
            input_ids=self.tokens_R1,
            attention_mask=mask_RS,
            position_ids=self.mask_RS.sum(dim=1, keepdim=True),
            past_key_values=cache_of(self.layers),
            use_cache=True,
            logits_to_keep=1,
        )
        return Rows(layers_of(output.past_key_values), mask_RS), output.logits[:, -1]

    def _padded(self, length: int) -> "Rows":
        more = length - self.mask_RS.shape[1]
        layers = [(pad(k, (0, 0, more, 0)), pad(v, (0, 0, more, 0))) for k, v in self.layers]
        return Rows(layers, pad(self.mask_RS, (more, 0)))


def read(llm: Any, *, embeds_BSL: Tensor, mask_BS: Tensor, positions_BS: Tensor) -> tuple[Rows, Tensor]:
    """Let the language model read prompts, padded left; returns what it remembers, and logits behind them.

    Raises:
        ModelError: As for ``layers_of``.
    """
    output = llm(
        inputs_embeds=embeds_BSL,
        attention_mask=mask_BS,
        position_ids=positions_BS,
        past_key_values=DynamicCache(),
        use_cache=True,
        logits_to_keep=1,
    )
    return Rows(layers_of(output.past_key_values), mask_BS), output.logits[:, -1]


def cache_of(layers: list[tuple[Tensor, Tensor]]) -> DynamicCache:
    """Put keys and values into a cache without copying them, as ``DynamicCache.update`` would."""
    cache: Any = DynamicCache()
    for keys, values in layers:
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache


def layers_of(cache: Any) -> list[tuple[Tensor, Tensor]]:
    """Take keys and values out of a cache that holds the whole past of every row.

    Raises:
        ModelError: The model keeps its past in a form that rows cannot be cut from.
    """
    if strange := sorted({type(layer).__name__ for layer in cache.layers} - {"DynamicLayer"}):
        raise ModelError(f"a language model with {strange[0]} in its cache cannot answer step by step")
    return [(layer.keys, layer.values) for layer in cache.layers]
