"""A small CNN that classifies the ten classes: the teacher of CLAP's audio tower.

From 240 clips a Swin transformer learns a class more slowly than a CNN, to which neighbourhood is built in.
So the CNN learns from the clips first; the transformer then learns the CNN's output
on endless mixtures of them (a patient and consistent teacher: Beyer et al., CVPR 2022, arXiv 2106.05237).

Shapes: N clips, B batch, F frames, M mel bands, K classes.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, one_hot

from examples.esc10.classes import NAMES
from examples.esc10.sounds import augmented

WIDTHS = (1, 16, 32, 64, 64)
EPOCHS, BATCH_SIZE, LEARNING_RATE = 60, 32, 3e-3


class Teacher(nn.Module):
    """Four convolutions, each followed by pooling; (B, F, M) -> (B, K)."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [
            nn.Sequential(
                nn.Conv2d(narrow, wide, 3, padding=1, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU(),
                nn.AvgPool2d(2),
            )
            for narrow, wide in pairwise(WIDTHS)
        ]
        self.blocks = nn.Sequential(nn.BatchNorm2d(1), *blocks)
        self.head = nn.Linear(WIDTHS[-1], len(NAMES))

    def forward(self, mels_BFM: Tensor) -> Tensor:
        """Return the logits of the classes."""
        features = self.blocks(mels_BFM[:, None]).mean(3)  # over mel bands: what it is, not how high
        return self.head(dropout(features.mean(2) + features.amax(2), 0.3, self.training))


def fit_teacher(mels_NFM: Tensor, kinds_N: Tensor, *, seed: int) -> Teacher:
    """Train on mixtures of the clips; returns it ready to teach."""
    with torch.random.fork_rng():  # dropout draws from the global generator, like the first weights
        torch.default_generator.manual_seed(seed)
        return _fit(Teacher().train(), mels_NFM, kinds_N, np.random.default_rng(seed))


def _fit(teacher: Teacher, mels_NFM: Tensor, kinds_N: Tensor, rng: np.random.Generator) -> Teacher:
    labels_NK = one_hot(kinds_N, len(NAMES)).float()
    optimizer = torch.optim.AdamW(teacher.parameters(), LEARNING_RATE, weight_decay=0.05)
    steps = len(mels_NFM) // BATCH_SIZE * EPOCHS
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(steps):
        rows = rng.choice(len(mels_NFM), BATCH_SIZE, replace=False)
        mels_BFM, labels_BK = augmented(mels_NFM[rows], labels_NK[rows], rng)
        loss = cross_entropy(teacher(mels_BFM), labels_BK)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return teacher.eval()
