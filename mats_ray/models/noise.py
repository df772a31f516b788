"""Gaussian noise on text embeddings for text-only training: e~ = norm(norm(e) + eps), eps ~ N(0, variance I).

Shapes: N rows, C CLAP dim.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mats_ray.config.model import NOISE_VARIANCE


def inject_noise(
    text_NC: Tensor, *, variance: float = NOISE_VARIANCE, generator: torch.Generator | None = None
) -> Tensor:
    """Add isotropic noise to embeddings and put them back on the unit sphere.

    Args:
        text_NC: (N, C) float embeddings; normalised here first.
        variance: Variance per component, as in upstream's code (the paper writes sigma for the same number).
        generator: Random generator, on the device of ``text_NC``; ``None`` uses torch's global one.

    Returns:
        (N, C) float32, L2-normalised.

    Raises:
        ValueError: A negative variance.
    """
    noise_NC = torch.randn(text_NC.shape, generator=generator, device=text_NC.device, dtype=torch.float32)
    return add_noise(text_NC, noise_NC, variance=variance)


def add_noise(text_NC: Tensor, noise_NC: Tensor, *, variance: float) -> Tensor:
    """Do the same with a given standard normal draw: norm(norm(e) + sqrt(variance) * noise)."""
    if variance < 0:
        raise ValueError(f"noise variance must not be negative, got {variance}")
    unit_NC = normalize(text_NC.float(), dim=-1)
    return normalize(unit_NC + noise_NC * variance**0.5, dim=-1)


def row_noise(row_ids: Sequence[int], dim: int, *, seed: int, epoch: int) -> Tensor:
    """Draw standard normal noise that depends on (seed, epoch, row id) and on nothing else.

    So a row gets the same noise in any worker, in any batch and after any restart.

    Args:
        row_ids: Non-negative 64-bit ids, one per row.
        dim: C.
        seed: Seed of the run.
        epoch: Number of the pass over the data; each has fresh noise.

    Returns:
        (N, C) float32.
    """
    noise_NC = np.empty((len(row_ids), dim), dtype=np.float32)
    for row, row_id in enumerate(row_ids):
        key = (seed, epoch, int(row_id))
        np.random.Generator(np.random.SFC64(np.random.SeedSequence(key))).standard_normal(
            dtype=np.float32, out=noise_NC[row]
        )
    return torch.from_numpy(noise_NC)
