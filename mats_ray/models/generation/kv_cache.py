"""Keys and values of the rows of a batch, in a form that rows can join and leave.

The host knows the length of every row, so that nothing has to be read back from the device: neither where a
row begins, nor whether there is padding at all.

Shapes: R rows, S columns of the key-value cache (padded left), Q new columns.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from mats_ray.errors import ModelError
from mats_ray.models import packing
from mats_ray.models.device import on_device
from mats_ray.models.splice import Spliced

_KEYS_AND_VALUES = {DynamicLayer, DynamicSlidingWindowLayer}


class KVCache:
    """Keys and values of every layer (R, heads, S, width), the mask of real columns, and next tokens.

    Args:
        layers: Keys and values of each.
        mask_RS: 1 at real columns, which lie at the right end.
        lengths: Number of real columns of each row.
        tokens_R1: Next tokens; 0 by default.
    """

    def __init__(
        self,
        layers: list[tuple[Tensor, Tensor]],
        mask_RS: Tensor,
        lengths: list[int],
        tokens_R1: Tensor | None = None,
    ) -> None:
        self.layers, self.mask_RS, self.lengths = layers, mask_RS, lengths
        self.tokens_R1 = mask_RS.new_zeros(len(mask_RS), 1) if tokens_R1 is None else tokens_R1

    def __len__(self) -> int:
        """Number of rows, R."""
        return len(self.lengths)

    def selected(self, kept: list[int], tokens: list[int] | None = None) -> "KVCache":
        """Return rows, in a new order or several times, without the columns that none of them uses.

        Args:
            kept: Indices; at least one.
            tokens: Next token of each; those they have by default.
        """
        device = self.mask_RS.device
        layers, mask_RS, tokens_R1, lengths = self.layers, self.mask_RS, self.tokens_R1, self.lengths
        if kept != list(range(len(self))):
            index_R, lengths = on_device(kept, device), [lengths[row] for row in kept]
            tokens_R1 = tokens_R1.index_select(0, index_R)
            first = mask_RS.shape[1] - max(lengths)
            mask_RS = mask_RS[:, first:].index_select(0, index_R)
            layers = [
                (k[:, :, first:].index_select(0, index_R), v[:, :, first:].index_select(0, index_R))
                for k, v in layers
            ]
        if tokens is not None:
            tokens_R1 = on_device(tokens, device)[:, None]
        return KVCache(layers, mask_RS, lengths, tokens_R1)

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
            self.lengths + other.lengths,
            torch.cat([self.tokens_R1, other.tokens_R1]),
        )

    def step(self, llm: Any) -> tuple["KVCache", Tensor]:
        """Run the language model on each row's next token; returns the longer cache, and logits (R, V).

        Raises:
            ModelError: As for ``read_prompts``.
        """
        mask_RS, lengths = pad(self.mask_RS, (0, 1), value=1), [length + 1 for length in self.lengths]
        output = llm(
            input_ids=self.tokens_R1,
            attention_mask=_attention_mask(llm, mask_RS, lengths, num_new=1),
            position_ids=self.mask_RS.sum(dim=1, keepdim=True),
            past_key_values=_transformers_cache(self.layers),
            use_cache=True,
            logits_to_keep=1,
        )
        return KVCache(_layers(output.past_key_values), mask_RS, lengths), output.logits[:, -1]

    def _padded(self, length: int) -> "KVCache":
        more = length - self.mask_RS.shape[1]
        layers = [(pad(k, (0, 0, more, 0)), pad(v, (0, 0, more, 0))) for k, v in self.layers]
        return KVCache(layers, pad(self.mask_RS, (more, 0)), self.lengths)


def read_prompts(llm: Any, prompts: Spliced) -> tuple[KVCache, Tensor]:
    """Run the language model on prompts, padded left; returns its cache, and logits (R, V) behind them.

    Raises:
        ModelError: The model keeps its past in a form that rows cannot be cut from.
    """
    lengths = prompts.lengths or prompts.mask_BS.sum(dim=1).tolist()
    output = llm(
        inputs_embeds=prompts.embeds_BSL,
        attention_mask=_attention_mask(llm, prompts.mask_BS, lengths, num_new=prompts.mask_BS.shape[1]),
        position_ids=prompts.positions_BS,
        past_key_values=DynamicCache(),
        use_cache=True,
        logits_to_keep=1,
    )
    return KVCache(_layers(output.past_key_values), prompts.mask_BS, lengths), output.logits[:, -1]


def is_supported(config: Any) -> bool:
    """Whether every layer of a language model keeps keys and values, by its configuration.

    A sliding window counts: it limits what is attended to, and a cache without a configuration keeps all.
    Recurrent layers have a state of another form; their models are for transformers' ``generate``.
    """
    return {type(layer) for layer in DynamicCache(config=config).layers} <= _KEYS_AND_VALUES


def _attention_mask(llm: Any, mask_RS: Tensor, lengths: list[int], *, num_new: int) -> Tensor | None:
    """Return the mask that transformers would derive from (R, S), where it need not look at it to do so.

    From a mask of two dimensions it reads back whether there is padding, in every pass; what is None or has
    four dimensions it takes as it is: (R, 1, Q, S), true where a new token sees another.
    """
    width = mask_RS.shape[1]
    if min(lengths) == width:
        return None
    if not packing.is_supported(llm.config) or getattr(llm.config, "sliding_window", None):
        return mask_RS
    is_real_R1QS = mask_RS.bool()[:, None, None, :].expand(-1, 1, num_new, -1)
    if num_new == 1:
        return is_real_R1QS
    return is_real_R1QS & mask_RS.new_ones(num_new, width, dtype=torch.bool).tril(width - num_new)


def _transformers_cache(layers: list[tuple[Tensor, Tensor]]) -> DynamicCache:
    """Put keys and values into a cache without copying them, as ``DynamicCache.update`` would."""
    cache: Any = DynamicCache()
    for keys, values in layers:
        layer = DynamicLayer()
        # as its own initialization does, without two empty tensors a layer
        layer.dtype, layer.device, layer.is_initialized = keys.dtype, keys.device, True
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache


def _layers(cache: Any) -> list[tuple[Tensor, Tensor]]:
    if unknown := sorted({type(layer).__name__ for layer in cache.layers if type(layer) is not DynamicLayer}):
        raise ModelError(f"a language model with {unknown[0]} in its cache cannot answer step by step")
    return [(layer.keys, layer.values) for layer in cache.layers]
