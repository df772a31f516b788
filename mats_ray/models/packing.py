"""Training rows of different lengths as one sequence: no padding, and the start they share only once.

Of a language model only the attention looks at other tokens. Everything else, nine tenths of the operations
of short rows, runs on the packed sequence; for the attention, queries, keys and values are laid out row by
row, with padding at the right end, and its output is packed again.

Shapes: B rows, F tokens of the shared start, Q own columns of a row (prefix and text), S = F + Q, N = F + all
own tokens, H heads, D head width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME, _SDPA = "mats_packed", "sdpa"

SUPPORTED = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "gemma", "phi3", "olmo2", "smollm3", "gpt2", "gpt_neox"}
)
"""Architectures, as in ``config.model_type``, that hand further arguments on to their attention and look at
other tokens nowhere else. A test compares each of them with padded rows."""


@dataclass(frozen=True, slots=True)
class Packing:
    """Places of tokens in the packed sequence and in rows."""

    kept_M: Tensor
    """Own tokens that are not padding, in (B * Q); they follow the shared start in the packed sequence."""
    positions_N: Tensor
    """Position of each packed token in its row."""
    sources_BS: Tensor
    """Packed token of each column of each row; any for padding."""
    places_N: Tensor
    """Column of each packed token, in (B * S); of the shared start those of the first row."""

    @classmethod
    def of(cls, mask_BQ: Tensor, *, num_shared: int) -> "Packing":
        """Pack rows whose own columns have the given mask, behind a shared start.

        Args:
            mask_BQ: 1 at real tokens; padding is at the right end.
            num_shared: F.
        """
        batch, width = mask_BQ.shape
        kept_M = mask_BQ.flatten().nonzero()[:, 0]
        row_M, column_M = kept_M // width, kept_M % width
        start_F = torch.arange(num_shared, device=mask_BQ.device)
        own_BQ = (num_shared - 1 + mask_BQ.flatten().cumsum(0)).view_as(mask_BQ)
        return cls(
            kept_M=kept_M,
            positions_N=torch.cat([start_F, num_shared + column_M]),
            sources_BS=torch.cat([start_F.expand(batch, -1), own_BQ], dim=1),
            places_N=torch.cat([start_F, row_M * (num_shared + width) + num_shared + column_M]),
        )

    def rows_of(self, packed_HND: Tensor) -> Tensor:
        """Lay packed tokens out in rows: (B, H, S, D)."""
        rows = packed_HND.transpose(0, 1).index_select(0, self.sources_BS.flatten())
        return rows.unflatten(0, self.sources_BS.shape).transpose(1, 2)


def is_supported(config: Any) -> bool:
    """Whether a language model computes the same on packed rows, by its configuration."""
    return config.model_type in SUPPORTED and config._attn_implementation in {_SDPA, _NAME}


def enable(config: Any) -> None:
    """Let a language model take a ``Packing`` as its argument ``packing``, with ``unused_mask`` beside it.

    Its inputs then are one sequence. Without a packing it computes what it has computed before. It stays
    enabled: with gradient checkpointing, layers run again long after the forward pass.
    """
    assert is_supported(config)
    if config._attn_implementation != _NAME:
        config._attn_implementation = _NAME


def is_enabled(config: Any) -> bool:
    """Whether a language model takes a packing; another one would ignore it silently."""
    return config._attn_implementation == _NAME


def unused_mask(like: Tensor) -> Tensor:
    """Return a mask that transformers hands on as it is, in place of one that it would make of positions."""
    return like.new_ones(1, 1, 1, 1, dtype=torch.bool)


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packing: Packing | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend causally within rows; (1, H, N, D) each, the result is (1, N, H, D). Without rows: as before."""
    if packing is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    q, k, v = (packing.rows_of(packed[0]) for packed in (query, key, value))
    window = options.get("sliding_window")
    mask = _window_mask(q, window) if window and q.shape[2] > window else None
    attended_BSHD, _ = sdpa_attention_forward(module, q, k, v, mask, **options)
    return attended_BSHD.flatten(0, 1).index_select(0, packing.places_N)[None], None


def _window_mask(q_BHSD: Tensor, window: int) -> Tensor:
    """Mask of a causal window, (1, 1, S, S): each token sees itself and ``window`` - 1 before it."""
    ones_SS = torch.ones(q_BHSD.shape[2], q_BHSD.shape[2], dtype=torch.bool, device=q_BHSD.device)
    return ones_SS.tril().triu(1 - window)[None, None]


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)
