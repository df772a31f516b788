"""Texts -> token ids, the way each CLAP family tokenises.

Shapes: B batch, T tokens.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from mats_ray.errors import ModelError


class TextTokens:
    """A tokenizer that loads when the first text comes: answering about audio alone needs none.

    Args:
        ref: Directory or hub id of a tokenizer.
        owner: What error messages call the CLAP it belongs to.
        vocab_size: Rows of the text tower's embedding table.
        max_tokens: Longer texts are cut, special tokens kept.
        pad_id: Id that fills short rows up.
    """

    def __init__(self, ref: str, *, owner: str, vocab_size: int, max_tokens: int, pad_id: int) -> None:
        self.ref = ref
        self.owner = owner
        self.vocab_size = vocab_size
        self.max_tokens = max_tokens
        self.pad_id = pad_id
        self._tokenizer: Any = None

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Return one list of ids per text, unpadded.

        Raises:
            ModelError: The tokenizer cannot be loaded or does not fit the text tower.
        """
        return self.tokenizer(list(texts), truncation=True, max_length=self.max_tokens)["input_ids"]

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer."""
        if self._tokenizer is None:
            self._tokenizer = self._load()
        return self._tokenizer

    def _load(self) -> Any:
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.ref)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelError(
                f"{self.owner}: texts need a tokenizer and {self.ref!r} does not give one"
                f" ({_first_line(error)}); pass tokenizer=DIRECTORY"
            ) from error
        if len(tokenizer) > self.vocab_size:
            raise ModelError(
                f"{self.owner}: the tokenizer {self.ref!r} has {len(tokenizer)} tokens,"
                f" the text tower knows {self.vocab_size}"
            )
        return tokenizer

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Pad rows of ids on the right to the longest: ids and mask, both (B, T) int64."""
        width = max(len(row) for row in rows)
        ids_BT = torch.full((len(rows), width), self.pad_id)
        mask_BT = torch.zeros_like(ids_BT)
        for index, row in enumerate(rows):
            ids_BT[index, : len(row)] = torch.tensor(row)
            mask_BT[index, : len(row)] = 1
        return ids_BT, mask_BT


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
