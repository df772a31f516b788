"""Parameter groups, and what follows from the number of a step: learning rate and dropout seeds.

Both are pure functions of the step, so that checkpoints need not keep the state of a schedule or generator.
"""

import hashlib
import math
from collections.abc import Iterable

import torch
from torch import nn

from mats_ray.config.train import OptimConfig, ScheduleConfig

ParameterGroup = dict[str, list[nn.Parameter] | float]


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]], config: OptimConfig) -> list[ParameterGroup]:
    """Split trained parameters into decayed matrices and undecayed vectors (biases, norms)."""
    trained = [parameter for _, parameter in named if parameter.requires_grad]
    groups: list[ParameterGroup] = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def learning_rate(step: int, *, lr: float, num_steps: int, schedule: ScheduleConfig) -> float:
    """Return the learning rate of update ``step`` (0-based).

    Warm-up is linear from lr / warmup_steps; then linear or cosine decay that would reach 0 at ``num_steps``.
    """
    warmup = schedule.warmup_steps
    if step < warmup:
        return lr * (step + 1) / warmup
    done = (step - warmup) / max(1, num_steps - warmup)
    if schedule.type == "linear":
        return lr * (1 - done)
    if schedule.type == "cosine":
        return lr * (1 + math.cos(math.pi * done)) / 2
    return lr


def dropout_seeds(*, seed: int, step: int, count: int, rank: int, num_workers: int) -> list[int]:
    """Return one seed for each micro-batch of one worker in one update.

    They follow from (seed, step, index of the micro-batch in the global batch): a resumed run, and one with
    another number of workers, draws the same masks.
    """
    return [_hash(f"{seed}:{step}:{i * num_workers + rank}") for i in range(count)]


def seed_dropout(seed: int) -> None:
    """Seed torch's global generators, which dropout draws from, for one micro-batch."""
    torch.manual_seed(seed)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
