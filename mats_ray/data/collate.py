"""Rows to tensors.

Shapes: B rows, C CLAP dim, T tokens.
"""

import logging
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from mats_ray.models.mats import TrainBatch, pad_right
from mats_ray.models.prompt import PromptTokenizer, SampleTokens
from mats_ray.models.splice import IGNORED

logger = logging.getLogger(__name__)

CACHED_SAMPLES = 200_000
"""Size of the cache of tokenised samples; closed-ended data has few distinct ones."""


class Collator:
    """Tokenises and pads rows, and counts the instructions that are cut."""

    def __init__(self, prompts: PromptTokenizer, max_text_tokens: int) -> None:
        self.max_text_tokens, self.num_cut = max_text_tokens, 0

        @lru_cache(CACHED_SAMPLES)
        def sample(instruction: str, answer: str) -> SampleTokens:
            return prompts.sample(instruction, answer, max_text_tokens=max_text_tokens)

        self._sample = sample

    def __call__(
        self,
        embeddings_BC: np.ndarray,
        instructions: Sequence[str],
        answers: Sequence[str],
        ids: Sequence[str] = (),
    ) -> TrainBatch:
        """Make a micro-batch; labels cover the answer and its EOS only."""
        samples = [self._sample(*pair) for pair in zip(instructions, answers, strict=True)]
        self._count_cut(sum(sample.truncated for sample in samples))
        after_BT, mask_BT = pad_right([sample.prompt + sample.answer for sample in samples])
        labels_BT, _ = pad_right([[IGNORED] * len(s.prompt) + s.answer for s in samples], value=IGNORED)
        clap_BC = torch.from_numpy(np.ascontiguousarray(embeddings_BC, dtype=np.float32))
        return TrainBatch(clap_BC, after_BT, mask_BT, labels_BT, tuple(ids))

    def _count_cut(self, count: int) -> None:
        """Log the count whenever it has doubled: at once, and never often."""
        before, self.num_cut = self.num_cut, self.num_cut + count
        if self.num_cut.bit_length() > before.bit_length():
            logger.warning("%d instructions cut to max_text_tokens=%d", self.num_cut, self.max_text_tokens)
