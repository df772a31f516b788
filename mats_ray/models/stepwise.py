"""Continuous batching: one forward pass at a time for answers that began, and will end, at different times.

Every answer in the batch is a ``Search`` with rows of its own. New ones join between two passes, finished or
abandoned ones leave at once, and none changes another: each row sees its own ids at its own positions.

Shapes: N new answers, R rows, S columns of the key-value cache (padded left), V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from mats_ray.errors import ModelError
from mats_ray.models.mats import MATS
from mats_ray.models.search import Search, Step
from mats_ray.models.splice import pad_left


class StepDecoder:
    """Answers under way, one batch of one model.

    Example::

        decoder = StepDecoder(model)
        decoder.add(clap_1C, [after_ids], [LineSearch(eos_id=2, max_new_tokens=9, penalties=Penalties())])
        while decoder.active:
            finished = decoder.step()
    """

    def __init__(self, model: MATS) -> None:
        self._model = model
        self._rows = _Rows()
        self._owners: list[tuple[Search, int]] = []

    @property
    def active(self) -> list[Search]:
        """Answers under way, in the order they joined."""
        return [search for search, _ in self._owners]

    @torch.inference_mode()
    def add(
        self, clap_NC: Tensor, after_ids: Sequence[Sequence[int]], searches: Sequence[Search]
    ) -> list[Search]:
        """Read N prompts in one pass and let their answers join; returns those that ended with it.

        Args:
            clap_NC: Embeddings, text or Santa-moved audio.
            after_ids: Ids of each prompt's second half.
            searches: How to look for each answer; new ones.

        Raises:
            ModelError: The model keeps its past in a form that rows cannot be cut from.
        """
        spliced = pad_left(self._model.prompt(clap_NC, after_ids))
        output = self._model.llm(
            inputs_embeds=spliced.embeds_BSL,
            attention_mask=spliced.mask_BS,
            position_ids=spliced.positions_BS,
            past_key_values=DynamicCache(),
            use_cache=True,
            logits_to_keep=1,
        )
        new = _Rows(_layers(output.past_key_values), spliced.mask_BS)
        owners, finished = self._advance([(search, 1) for search in searches], output.logits[:, -1], new)
        self._rows = self._rows.joined(new)
        self._owners += owners
        return finished

    @torch.inference_mode()
    def step(self) -> list[Search]:
        """Compute one more token of every answer; returns those that ended with it."""
        positions_R1 = self._rows.mask_RS.sum(dim=1, keepdim=True)
        mask_RS = pad(self._rows.mask_RS, (0, 1), value=1)
        output = self._model.llm(
            input_ids=self._rows.tokens_R1,
            attention_mask=mask_RS,
            position_ids=positions_R1,
            past_key_values=_cache_of(self._rows.layers),
            use_cache=True,
            logits_to_keep=1,
        )
        self._rows = _Rows(_layers(output.past_key_values), mask_RS)
        self._owners, finished = self._advance(self._owners, output.logits[:, -1], self._rows)
        return finished

    def drop(self, search: Search) -> None:
        """Forget an answer nobody waits for any more."""
        kept, first, owners = [], 0, []
        for owner, width in self._owners:
            if owner is not search:
                kept += range(first, first + width)
                owners.append((owner, width))
            first += width
        if len(owners) < len(self._owners):
            self._rows.select(kept, self._rows.tokens_R1[kept, 0].tolist())
            self._owners = owners

    def _advance(
        self, owners: Sequence[tuple[Search, int]], logits_RV: Tensor, rows: "_Rows"
    ) -> tuple[list[tuple[Search, int]], list[Search]]:
        """Let every search take its logits, then keep the rows they go on from."""
        kept, tokens, going, finished, first = [], [], [], [], 0
        for search, width in owners:
            step: Step | None = search.advance(logits_RV[first : first + width])
            if step is None:
                finished.append(search)
            else:
                kept += [first + parent for parent in step.parents]
                tokens += step.tokens
                going.append((search, len(step.tokens)))
            first += width
        rows.select(kept, tokens)
        return going, finished


class _Rows:
    """Keys and values of every layer (R, heads, S, width), what is real, and each row's next token."""

    def __init__(
        self, layers: list[tuple[Tensor, Tensor]] | None = None, mask_RS: Tensor | None = None
    ) -> None:
        self.layers = layers or []
        self.mask_RS = mask_RS if mask_RS is not None else torch.zeros(0, 0, dtype=torch.long)
        self.tokens_R1 = torch.zeros(len(self.mask_RS), 1, dtype=torch.long, device=self.mask_RS.device)

    def select(self, kept: list[int], tokens: list[int]) -> None:
        """Keep rows, in a new order or several times, and drop columns that none of them uses."""
        device = self.mask_RS.device
        if kept != list(range(len(self.mask_RS))):
            index = torch.tensor(kept, dtype=torch.long, device=device)
            mask_RS = self.mask_RS[index]
            first = int(mask_RS.any(dim=0).int().argmax()) if kept else mask_RS.shape[1]
            self.layers = [(k[index, :, first:], v[index, :, first:]) for k, v in self.layers]
            self.mask_RS = mask_RS[:, first:]
        self.tokens_R1 = torch.tensor(tokens, dtype=torch.long, device=device)[:, None]

    def joined(self, other: "_Rows") -> "_Rows":
        """Put another batch's rows below; the shorter history is padded on its left."""
        if not len(self.mask_RS) or not len(other.mask_RS):
            return other if len(other.mask_RS) else self
        length = max(self.mask_RS.shape[1], other.mask_RS.shape[1])
        ours, theirs = self._padded(length), other._padded(length)
        both = _Rows(
            [
                (torch.cat([k, other_k]), torch.cat([v, other_v]))
                for (k, v), (other_k, other_v) in zip(ours.layers, theirs.layers, strict=True)
            ],
            torch.cat([ours.mask_RS, theirs.mask_RS]),
        )
        both.tokens_R1 = torch.cat([self.tokens_R1, other.tokens_R1])
        return both

    def _padded(self, length: int) -> "_Rows":
        more = length - self.mask_RS.shape[1]
        layers = [(pad(k, (0, 0, more, 0)), pad(v, (0, 0, more, 0))) for k, v in self.layers]
        return _Rows(layers, pad(self.mask_RS, (more, 0)))


def _cache_of(layers: list[tuple[Tensor, Tensor]]) -> DynamicCache:
    """Put keys and values into a cache without copying them, as ``DynamicCache.update`` would."""
    cache: Any = DynamicCache()
    for keys, values in layers:
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache


def _layers(cache: Any) -> list[tuple[Tensor, Tensor]]:
    """Take keys and values out of a cache that holds the whole past of every row."""
    if strange := sorted({type(layer).__name__ for layer in cache.layers} - {"DynamicLayer"}):
        raise ModelError(f"a language model with {strange[0]} in its cache cannot answer step by step")
    return [(layer.keys, layer.values) for layer in cache.layers]
