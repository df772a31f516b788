"""Keys and values of the rows of a batch, in a form that rows can join and leave.

Shapes: R rows, S columns of the key-value cache (padded left).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from mats_ray.errors import ModelError
from mats_ray.models.splice import Spliced

_KEYS_AND_VALUES = {DynamicLayer, DynamicSlidingWindowLayer}


class KVCache:
    """Keys and values of every layer (R, heads, S, width), the mask of real columns, and next tokens."""

    def __init__(
        self, layers: list[tuple[Tensor, Tensor]], mask_RS: Tensor, tokens_R1: Tensor | None = None
    ) -> None:
        self.layers, self.mask_RS = layers, mask_RS
        self.tokens_R1 = mask_RS.new_zeros(len(mask_RS), 1) if tokens_R1 is None else tokens_R1

    def __len__(self) -> int:
        """Number of rows, R."""
        return len(self.mask_RS)

    def selected(self, kept: list[int], tokens: list[int] | None = None) -> "KVCache":
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
        return KVCache(layers, mask_RS, tokens_R1)

    def joined(self, other: "KVCache") -> "KVCache":
        """Put another batch's rows below; the shorter history is padded on its left."""
        length = max(self.mask_RS.shape[1], other.mask_RS.shape[1])
        ours, theirs = self._padded(length), other._padded(length)
        return KVCache(
            [
                (torch.cat([k, other_k]), torch.cat([v, other_v]))
                for (k, v), (other_k, other_v) in zip(ours.layers, theirs.layers, strict=True)
            ],
            torch.cat([ours.mask_RS, theirs.mask_RS]),
            torch.cat([self.tokens_R1, other.tokens_R1]),
        )

    def step(self, llm: Any) -> tuple["KVCache", Tensor]:
        """Run the language model on each row's next token; returns the longer cache, and logits (R, V).

        Raises:
            ModelError: As for ``read_prompts``.
        """
        mask_RS = pad(self.mask_RS, (0, 1), value=1)
        output = llm(
            input_ids=self.tokens_R1,
            attention_mask=mask_RS,
            position_ids=self.mask_RS.sum(dim=1, keepdim=True),
            past_key_values=_transformers_cache(self.layers),
            use_cache=True,
            logits_to_keep=1,
        )
        return KVCache(_layers(output.past_key_values), mask_RS), output.logits[:, -1]

    def _padded(self, length: int) -> "KVCache":
        more = length - self.mask_RS.shape[1]
        layers = [(pad(k, (0, 0, more, 0)), pad(v, (0, 0, more, 0))) for k, v in self.layers]
        return KVCache(layers, pad(self.mask_RS, (more, 0)))


def read_prompts(llm: Any, prompts: Spliced) -> tuple[KVCache, Tensor]:
    """Run the language model on prompts, padded left; returns its cache, and logits (R, V) behind them.

    Raises:
        ModelError: The model keeps its past in a form that rows cannot be cut from.
    """
    output = llm(
        inputs_embeds=prompts.embeds_BSL,
        attention_mask=prompts.mask_BS,
        position_ids=prompts.positions_BS,
        past_key_values=DynamicCache(),
        use_cache=True,
        logits_to_keep=1,
    )
    return KVCache(_layers(output.past_key_values), prompts.mask_BS), output.logits[:, -1]


def is_supported(config: Any) -> bool:
    """Whether every layer of a language model keeps keys and values, by its configuration.

    A sliding window counts: it limits what is attended to, and a cache without a configuration keeps all.
    Recurrent layers have a state of another form; their models are for transformers' ``generate``.
    """
    return {type(layer) for layer in DynamicCache(config=config).layers} <= _KEYS_AND_VALUES


def _transformers_cache(layers: list[tuple[Tensor, Tensor]]) -> DynamicCache:
    """Put keys and values into a cache without copying them, as ``DynamicCache.update`` would."""
    cache: Any = DynamicCache()
    for keys, values in layers:
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache


def _layers(cache: Any) -> list[tuple[Tensor, Tensor]]:
    if unknown := sorted({type(layer).__name__ for layer in cache.layers if type(layer) is not DynamicLayer}):
        raise ModelError(f"a language model with {unknown[0]} in its cache cannot answer step by step")
    return [(layer.keys, layer.values) for layer in cache.layers]
