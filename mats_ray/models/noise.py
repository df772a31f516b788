"""The Gaussian step that makes text-only training work: e~ = norm(norm(e) + eps), eps ~ N(0, variance I).

Shapes: N rows, C CLAP dim.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize


def inject_noise(
    text_NC: Tensor, *, variance: float = 0.015, generator: torch.Generator | None = None
) -> Tensor:
    """Add isotropic noise to embeddings and put them back on the unit sphere.

    Args:
        text_NC: (N, C) float embeddings; normalised here first.
        variance: Of each component, as in upstream's code (the paper writes sigma for the same number).
        generator: Source of the draw, on the device of ``text_NC``; ``None`` uses torch's global one.

    Returns:
        (N, C) float32, L2-normalised.

    Raises:
        ValueError: A negative variance.
    """
    noise_NC = torch.randn(text_NC.shape, generator=generator, device=text_NC.device, dtype=torch.float32)
    return add_noise(text_NC, noise_NC, variance=variance)


def add_noise(text_NC: Tensor, noise_NC: Tensor, *, variance: float) -> Tensor:
    """The same with the standard normal draw given: norm(norm(e) + sqrt(variance) * noise)."""
    if variance < 0:
        raise ValueError(f"noise variance must not be negative, got {variance}")
    unit_NC = normalize(text_NC.float(), dim=-1)
    return normalize(unit_NC + noise_NC * variance**0.5, dim=-1)


def row_noise(row_ids: Sequence[int], dim: int, *, seed: int, epoch: int) -> Tensor:
    """Draw standard normal noise that depends on (seed, epoch, row id) and on nothing else.

    So a row gets the same noise whatever worker, batch or restart brings it.

    Args:
        row_ids: Non-negative 64-bit ids, one per row.
        dim: C.
        seed: Of the run.
        epoch: Fresh noise every pass over the data.

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
