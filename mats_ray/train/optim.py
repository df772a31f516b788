"""Parameter groups, and the learning rate as a pure function of the step."""

import math
from collections.abc import Iterable

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
