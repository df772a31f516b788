"""Put the audio prefix between the two halves of a prompt.

Shapes: B batch, T tokens after the prefix, P prefix vectors, F tokens before it, S = F + P + T, L LLM dim.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED = -100
"""Label of positions that carry no loss."""


@dataclass(frozen=True, slots=True)
class Spliced:
    """Inputs of the language model."""

    embeds_BSL: Tensor
    mask_BS: Tensor
    positions_BS: Tensor
    """Position of each real token, 0, 1, 2 ..., not counting padding."""
    lengths: list[int] | None = None
    """Number of real tokens of each row, where the host knows it."""


def splice(before_FL: Tensor, prefix_BPL: Tensor, after_BTL: Tensor, after_mask_BT: Tensor) -> Spliced:
    """Join [before | prefix | after] row by row; padding stays at the right end.

    The language model's precision is that of its word embeddings, and the prefix is rounded to it: the
    connector may be float32 where the language model is bfloat16 or float16. Nowhere else do the two meet.

    Args:
        before_FL: Embedded BOS and prompt start, shared by all rows.
        prefix_BPL: Audio prefix, in the connector's precision.
        after_BTL: Embedded rest of the prompt, and the answer while training, padded right.
        after_mask_BT: 1 at real tokens of ``after_BTL``.

    Returns:
        (B, S, L) embeddings in the precision of the word embeddings, with mask and positions.
    """
    batch = len(prefix_BPL)
    before_BFL = before_FL.expand(batch, -1, -1)
    embeds_BSL = torch.cat([before_BFL, prefix_BPL.to(after_BTL.dtype), after_BTL], dim=1)
    always = after_mask_BT.new_ones(batch, embeds_BSL.shape[1] - after_mask_BT.shape[1])
    mask_BS = torch.cat([always, after_mask_BT], dim=1)
    return Spliced(embeds_BSL, mask_BS, _positions(mask_BS))


def pad_left(spliced: Spliced) -> Spliced:
    """Move the padding of each row from its right end to its left: generation continues at the right end."""
    padding_B1 = (spliced.mask_BS == 0).sum(dim=1, keepdim=True)
    length = spliced.mask_BS.shape[1]
    source_BS = (torch.arange(length, device=padding_B1.device)[None] - padding_B1) % length
    index_BSL = source_BS[..., None].expand_as(spliced.embeds_BSL)
    mask_BS = spliced.mask_BS.gather(1, source_BS)
    embeds_BSL = spliced.embeds_BSL.gather(1, index_BSL)
    return Spliced(embeds_BSL, mask_BS, _positions(mask_BS), spliced.lengths)


def _positions(mask_BS: Tensor) -> Tensor:
    return (mask_BS.cumsum(dim=1) - 1).clamp_min(0)
