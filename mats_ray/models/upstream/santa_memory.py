"""A released memory file becomes a Santa memory.

Shapes: N rows, C CLAP dim.
"""

from pathlib import Path

import torch
from torch import Tensor

from mats_ray.config.model import known_variance
from mats_ray.config.santa import MemoryConfig
from mats_ray.errors import ModelError
from mats_ray.models.foreign import read_torch_file
from mats_ray.models.santa import SantaMemory

UPSTREAM_NOISE_VARIANCE = 0.015
"""Variance of the noise that upstream draws at every request."""


def read_rows(path: Path, *, dim: int) -> Tensor:
    """Read a memory of upstream's builder: a tensor (N, C), or a list of N vectors.

    Raises:
        ModelError: It is something else, or of another CLAP's width.
    """
    content = read_torch_file(path)
    try:
        vectors = content if isinstance(content, Tensor) else [torch.as_tensor(vector) for vector in content]
        rows_NC = vectors if isinstance(vectors, Tensor) else torch.stack(vectors).squeeze(1)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path} holds no memory, a tensor or a list of vectors: {error}") from error
    if rows_NC.dim() != 2 or rows_NC.shape[1] != dim or not len(rows_NC):
        raise ModelError(f"{path} holds {tuple(rows_NC.shape)}, a memory for this CLAP is (N, {dim})")
    return rows_NC.float()


def build_memory(rows_NC: Tensor, *, compat: str, source: str) -> SantaMemory:
    """Cluster the rows; the paper's noise is added here, upstream's at inference.

    Of more rows than ``memory.num_rows`` that many are drawn. (Upstream shuffles first, with a function that
    overwrites rows of a tensor with each other.)
    """
    settings = MemoryConfig()
    if len(rows_NC) > settings.num_rows:
        generator = torch.Generator().manual_seed(0)
        rows_NC = rows_NC[torch.randperm(len(rows_NC), generator=generator)[: settings.num_rows]]
    noise_variance = known_variance(settings.noise_variance) if compat == "paper" else 0.0
    return SantaMemory.build(
        rows_NC,
        num_clusters=min(settings.num_clusters, len(rows_NC)),
        noise_variance=noise_variance,
        num_iterations=settings.num_iterations,
        provenance={"source": source, "noise_variance": str(noise_variance), "seed": "0"},
    )
