"""Auxiliary loss of the toy CLAP, besides matching: classifying the sounds of a clip, and their order.

Real CLAPs start from pretrained towers (HTSAT on AudioSet's tags, RoBERTa and GPT-2 on text). The toy's
start from nothing, and a contrastive loss alone, on a few thousand pairs, needs far longer to separate the
twentieth sound from the others. One linear head reads both modalities: a tag has one direction in either.

Shapes: N clips, B batch, C joint dim, K tags.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from mats_ray.toy.scenes import KIND_SHARES, Scene
from mats_ray.toy.sounds import SOUNDS

NUM_TAGS = 2 * len(SOUNDS) + len(KIND_SHARES)
"""Each sound: there or not; each sound: first of two or not; each kind of scene."""
SOUND_WEIGHT, ORDER_WEIGHT = 1.3, 0.5
"""Against the contrastive loss; sounds are harder to learn than their order, and matter more."""
_SCALE = 8.0  # unit vectors of 64 components are small inputs


def scene_tags(scenes: Sequence[Scene]) -> Tensor:
    """Mark what is true of each scene, (N, K) of zeros and ones."""
    rows = [
        [
            *(name in scene.sounds for name in SOUNDS),
            *(scene.kind == "then" and scene.sounds[0] == name for name in SOUNDS),
            *(scene.kind == kind for kind in KIND_SHARES),
        ]
        for scene in scenes
    ]
    return torch.tensor(rows, dtype=torch.float32)


class TagHead(nn.Module):
    """A linear classifier of tags on the joint space; discarded after training.

    Args:
        dim: Width of the joint space.
    """

    weight_K: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.tags = nn.Linear(dim, NUM_TAGS)
        weights = [SOUND_WEIGHT] * len(SOUNDS)
        self.register_buffer("weight_K", torch.tensor(weights + [ORDER_WEIGHT] * (NUM_TAGS - len(weights))))

    def forward(self, audio_BC: Tensor, text_BC: Tensor, tags_BK: Tensor) -> Tensor:
        """Weighted cross-entropy of all tags, summed over tags and modalities, averaged over the batch."""
        logits_2BK = self.tags(torch.stack([audio_BC, text_BC]) * _SCALE)
        loss_2BK = binary_cross_entropy_with_logits(
            logits_2BK, tags_BK.expand_as(logits_2BK), reduction="none"
        )
        return (loss_2BK * self.weight_K).sum(dim=(0, 2)).mean()
