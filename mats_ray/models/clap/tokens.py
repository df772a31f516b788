"""Texts -> token ids, the way each CLAP family tokenises.

Shapes: B batch, T tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from mats_ray.errors import ModelError
from mats_ray.models.clap.hub import fetch
from mats_ray.models.weights import check_vocabulary

_TOKENIZER_FILES = ["tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "config.json"]


class TextTokens:
    """A tokenizer that is loaded with the first text; encoding audio needs none.

    Args:
        ref: Directory or hub id of a tokenizer.
        owner: Name in error messages of the CLAP it belongs to.
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
            found = self.prepare(find_tokenizer(self.ref, owner=self.owner))
            check_vocabulary(
                found, self.vocab_size, source=f"{self.owner}: the text tower's tokenizer {self.ref!r}"
            )
            self._tokenizer = found
        return self._tokenizer

    def prepare(self, tokenizer: Any) -> Any:
        """Change a freshly loaded tokenizer into what the family's package uses."""
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


def find_tokenizer(ref: str, *, owner: str) -> Any:
    """Load a tokenizer from a directory or by hub id.

    Raises:
        ModelError: It is neither here nor to be had.
    """
    try:
        path = ref if Path(ref).is_dir() else fetch(ref, _TOKENIZER_FILES)
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{owner}: texts need a tokenizer and {ref!r} does not give one ({reason}); save one where there"
            " is a network (AutoTokenizer.from_pretrained(...).save_pretrained(DIR)) and pass tokenizer=DIR"
        ) from error
