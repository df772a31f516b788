"""Keys and values of the rows of a batch, in a form that rows can join and leave.

The host knows the length of every row, so that nothing has to be read back from the device: neither where a
row begins, nor whether there is padding at all. Buffers are longer than what they hold, so that a step writes
its column instead of copying all columns before it, as transformers' own cache does. They grow layer by
layer, and rows change places or leave buffer by buffer, so that no cache is there twice.

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
_ROOM = 32
"""Buffers have a multiple of this many columns: the copies of a growing one are as many fewer."""


class KVCache:
    """Keys and values of every layer (R, heads, S, width), the mask of real columns, and next tokens.

    A cache and the one that ``step`` returns may share buffers, of which each sees its own columns: of two
    steps from one cache the later one is what both results hold.

    Args:
        buffers: Keys and values of each layer, of at least S columns.
        mask_RS: 1 at real columns, which lie at the right end.
        lengths: Number of real columns of each row.
        tokens_R1: Next tokens; 0 by default.
    """

    def __init__(
        self,
        buffers: list[tuple[Tensor, Tensor]],
        mask_RS: Tensor,
        lengths: list[int],
        tokens_R1: Tensor | None = None,
    ) -> None:
        self._buffers, self.mask_RS, self.lengths = buffers, mask_RS, lengths
        self.tokens_R1 = mask_RS.new_zeros(len(mask_RS), 1) if tokens_R1 is None else tokens_R1

    def __len__(self) -> int:
        """Number of rows, R."""
        return len(self.lengths)

    @property
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of each layer, (R, heads, S, width)."""
        width = self.mask_RS.shape[1]
        return [(keys[:, :, :width], values[:, :, :width]) for keys, values in self._buffers]

    def selected(self, kept: list[int], tokens: list[int] | None = None, *, reuse: bool = False) -> "KVCache":
        """Return rows, in a new order or several times, without the columns that none of them uses.

        Neighbours in their order are views, without memory of their own: a batch that ran out of memory can
        be halved.

        Args:
            kept: Indices; at least one.
            tokens: Next token of each; those they have by default.
            reuse: Write to the buffers of this cache where they suffice; then it must not be used again. If
                this raises an exception, it is as it was.
        """
        device = self.mask_RS.device
        tokens_R1 = self.tokens_R1 if tokens is None else on_device(tokens, device)[:, None]
        lengths, end = [self.lengths[row] for row in kept], self.mask_RS.shape[1]
        columns, rows = slice(end - max(lengths), end), slice(kept[0], kept[0] + len(kept))
        if kept == list(range(rows.start, rows.stop)):
            if tokens is None:
                tokens_R1 = tokens_R1[rows]
            views = [
                (keys[rows, :, columns.start :], values[rows, :, columns.start :])
                for keys, values in self._buffers
            ]
            return KVCache(views, self.mask_RS[rows, columns], lengths, tokens_R1)
        index_R = on_device(kept, device)
        if tokens is None:
            tokens_R1 = tokens_R1.index_select(0, index_R)
        mask_RS = self.mask_RS[:, columns].index_select(0, index_R)
        buffers = self._selected_buffers(index_R, columns, reuse=reuse)  # last: it may overwrite this cache
        return KVCache(buffers, mask_RS, lengths, tokens_R1)

    def _selected_buffers(
        self, index_R: Tensor, columns: slice, *, reuse: bool
    ) -> list[tuple[Tensor, Tensor]]:
        """Copy rows to new buffers, or each buffer's to the one before it and the first one's to a new one.

        The second way takes the memory of one buffer instead of all, and on a CPU no new pages: filling those
        takes longer than copying. What rows that leave have held is free when the buffers are next full.
        """
        num_rows, width = len(index_R), columns.stop - columns.start
        reuse = reuse and num_rows <= len(self)
        if reuse:
            self._make_room()
        sources = [one for pair in self._buffers for one in pair]
        if reuse and len({(one.shape, one.dtype, one.device) for one in sources}) == 1:
            first = sources[0].new_empty(num_rows, *sources[0].shape[1:])
            targets = [first, *(one[:num_rows] for one in sources[:-1])]
        else:
            targets = [_empty_buffer(one, num_rows, width + 1) for one in sources]
        for source, target in zip(sources, targets, strict=True):
            torch.index_select(source[:, :, columns], 0, index_R, out=target[:, :, :width])
        return list(zip(targets[::2], targets[1::2], strict=True))

    def joined(self, other: "KVCache") -> "KVCache":
        """Put another batch's rows below; the shorter history is padded on its left."""
        width = max(self.mask_RS.shape[1], other.mask_RS.shape[1])
        masks = (pad(one.mask_RS, (width - one.mask_RS.shape[1], 0)) for one in (self, other))
        return KVCache(
            [
                (_joined(keys, other_keys, width), _joined(values, other_values, width))
                for (keys, values), (other_keys, other_values) in zip(self.layers, other.layers, strict=True)
            ],
            torch.cat(list(masks)),
            self.lengths + other.lengths,
            torch.cat([self.tokens_R1, other.tokens_R1]),
        )

    def step(self, llm: Any) -> tuple["KVCache", Tensor]:
        """Run the language model on each row's next token; returns the longer cache, and logits (R, V).

        Raises:
            ModelError: As for ``read_prompts``.
        """
        self._make_room()
        mask_RS, lengths = pad(self.mask_RS, (0, 1), value=1), [length + 1 for length in self.lengths]
        output = llm(
            input_ids=self.tokens_R1,
            attention_mask=_attention_mask(llm, mask_RS, lengths, num_new=1),
            position_ids=self.mask_RS.sum(dim=1, keepdim=True),
            past_key_values=self._transformers_cache(),
            use_cache=True,
            logits_to_keep=1,
        )
        return KVCache(_buffers(output.past_key_values), mask_RS, lengths), output.logits[:, -1]

    def _make_room(self) -> None:
        """Move what full buffers hold to longer ones; if this raises an exception, the cache is as it was."""
        width = self.mask_RS.shape[1]
        for layer in range(len(self._buffers)):
            keys, values = (_with_room(one, width) for one in self._buffers[layer])
            self._buffers[layer] = keys, values

    def _transformers_cache(self) -> DynamicCache:
        """Return buffers as transformers' cache, without the copy that ``DynamicCache.update`` makes."""
        cache: Any = DynamicCache()
        width = self.mask_RS.shape[1]
        cache.layers.extend(_BufferedLayer(*buffers, width) for buffers in self._buffers)
        return cache


def read_prompts(llm: Any, prompts: Spliced) -> tuple[KVCache, Tensor]:
    """Run the language model on prompts, padded left; returns its cache, and logits (R, V) behind them.

    Raises:
        ModelError: The model keeps its past in a form that rows cannot be cut from.
    """
    lengths = prompts.lengths or prompts.mask_BS.sum(dim=1).tolist()
    width = prompts.mask_BS.shape[1]
    output = llm(
        inputs_embeds=prompts.embeds_BSL,
        attention_mask=_attention_mask(llm, prompts.mask_BS, lengths, num_new=width),
        position_ids=prompts.positions_BS,
        past_key_values=DynamicCache(),
        use_cache=True,
        # an index and not the number 1, of which transformers makes a view (R, 1, L) with gaps between its
        # rows: PyTorch multiplies such rows one by one and, on a CPU in half precision, copies the output
        # layer's weights for each
        logits_to_keep=on_device([width - 1], prompts.embeds_BSL.device),
    )
    return KVCache(_buffers(output.past_key_values), prompts.mask_BS, lengths), output.logits[:, -1]


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


class _BufferedLayer(DynamicLayer):
    """Keys and values in buffers with room for a step's column."""

    def __init__(self, key_buffer: Tensor, value_buffer: Tensor, width: int) -> None:
        super().__init__()
        # as its own initialization does, without two empty tensors a layer
        self.dtype, self.device, self.is_initialized = key_buffer.dtype, key_buffer.device, True
        self.key_buffer, self.value_buffer = key_buffer, value_buffer
        self.keys, self.values = key_buffer[:, :, :width], value_buffer[:, :, :width]

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write new columns; returns all of them."""
        width = self.get_seq_length()
        longer = width + key_states.shape[2]
        self.key_buffer[:, :, width:longer] = key_states
        self.value_buffer[:, :, width:longer] = value_states
        self.keys, self.values = self.key_buffer[:, :, :longer], self.value_buffer[:, :, :longer]
        return self.keys, self.values


def _with_room(buffer: Tensor, width: int) -> Tensor:
    """Return a buffer if it has room behind its first ``width`` columns, else a longer one with these."""
    if width < buffer.shape[2]:
        return buffer
    longer = _empty_buffer(buffer, len(buffer), width + 1)
    longer[:, :, :width] = buffer
    return longer


def _joined(upper: Tensor, lower: Tensor, width: int) -> Tensor:
    """Copy both to a buffer of so many columns and more, at their right end."""
    buffer = _empty_buffer(upper, len(upper) + len(lower), width + 1)
    for held, rows in zip((upper, lower), buffer.split([len(upper), len(lower)]), strict=True):
        padding = width - held.shape[2]
        rows[:, :, :padding] = 0  # a mask does not hide what is not a number
        rows[:, :, padding:width] = held
    return buffer


def _empty_buffer(held: Tensor, num_rows: int, width: int) -> Tensor:
    """Return memory, not initialised, for so many rows and at least so many columns."""
    columns = -(-width // _ROOM) * _ROOM
    return held.new_empty(num_rows, held.shape[1], columns, held.shape[3])


def _buffers(cache: Any) -> list[tuple[Tensor, Tensor]]:
    known = {DynamicLayer, _BufferedLayer}
    if unknown := sorted({type(layer).__name__ for layer in cache.layers if type(layer) not in known}):
        raise ModelError(f"a language model with {unknown[0]} in its cache cannot answer step by step")
    return [
        (one.key_buffer, one.value_buffer) if type(one) is _BufferedLayer else (one.keys, one.values)
        for one in cache.layers
    ]
