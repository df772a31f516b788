"""Rows to tensors.

Shapes: B rows, C CLAP dim, T tokens.
"""

from collections.abc import Sequence

import numpy as np
import torch

from mats_ray.models.mats import TrainBatch, pad_right
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.models.splice import IGNORED


def collate(
    embeddings_BC: np.ndarray,
    instructions: Sequence[str],
    answers: Sequence[str],
    prompts: PromptTokenizer,
    *,
    max_text_tokens: int,
) -> TrainBatch:
    """Tokenise and pad rows; labels cover the answer and its EOS only."""
    samples = [
        prompts.sample(instruction, answer, max_text_tokens=max_text_tokens)
        for instruction, answer in zip(instructions, answers, strict=True)
    ]
    after_BT, mask_BT = pad_right([sample.prompt + sample.answer for sample in samples])
    labels_BT, _ = pad_right([[IGNORED] * len(s.prompt) + s.answer for s in samples], value=IGNORED)
    clap_BC = torch.from_numpy(np.ascontiguousarray(embeddings_BC, dtype=np.float32))
    return TrainBatch(clap_BC, after_BT, mask_BT, labels_BT)
