"""Auxiliary loss of the toy CLAP, besides matching: classifying the sounds of a clip, and their order.

Real CLAPs start from pretrained towers (HTSAT on AudioSet's tags, RoBERTa and GPT-2 on text). The toy's
start from nothing, and a contrastive loss alone, on a few thousand pairs, needs far longer to separate the
twentieth sound from the others. Each tower has a head of its own, before the projection into the joint space,
as pretraining has: nothing but the contrastive loss brings the modalities together.

Shapes: N clips, B batch, D width of a tower, K tags.
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
    """A linear classifier of tags on the output of one tower; discarded after training.

    Args:
        width: D.
    """

    weight_K: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tags = nn.Linear(width, NUM_TAGS)
        weights = [SOUND_WEIGHT] * len(SOUNDS)
        self.register_buffer("weight_K", torch.tensor(weights + [ORDER_WEIGHT] * (NUM_TAGS - len(weights))))

    def forward(self, pooled_BD: Tensor, tags_BK: Tensor) -> Tensor:
        """Weighted cross-entropy of all tags, summed over tags, averaged over the batch."""
        loss_BK = binary_cross_entropy_with_logits(self.tags(pooled_BD), tags_BK, reduction="none")
        return (loss_BK * self.weight_K).sum(dim=1).mean()
