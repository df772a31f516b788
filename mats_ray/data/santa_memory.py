"""Embedded triplets to a Santa memory file, and back."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from mats_ray.config import RunConfig
from mats_ray.config.model import AUTO, known_variance
from mats_ray.data.embedded import distinct_embeddings, distinct_texts, inspect
from mats_ray.data.embedding.noise_variance import training_variance
from mats_ray.data.triplets import check_identity
from mats_ray.models.build import build_clap
from mats_ray.models.santa import SantaMemory
from mats_ray.storage import write_file
from mats_ray.types import CLAPIdentity

CLAP = "clap"
"""Key of the CLAP in the provenance of a bridge's state."""


def build_memory(config: RunConfig) -> SantaMemory:
    """Draw ``memory.num_rows`` distinct texts, noise and cluster them, write ``config.memory_path``.

    A small data set yields all its texts, in at most as many clusters as rows. For a projection the texts
    get neither noise nor clusters: they are its support, whose mean is to lie where texts do.

    Raises:
        DataError: There are no embedded triplets; or ``noise_variance`` is auto, and clips have one caption.
    """
    settings = config.memory
    embeddings_NC, clap = draw_texts(config)
    is_support = config.bridge == "projection"
    variance = 0.0 if is_support else _noise_variance(config)
    memory = SantaMemory.build(
        torch.from_numpy(embeddings_NC),
        num_clusters=1 if is_support else min(settings.num_clusters, len(embeddings_NC)),
        noise_variance=variance,
        num_iterations=settings.num_iterations,
        seed=config.seed,
        provenance={
            CLAP: str(clap),
            "noise_variance": str(variance),
            "seed": str(config.seed),
        },
    )
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch) / "memory.safetensors"
        memory.save(local)
        write_file(config.memory_path, local)
    return memory


def _noise_variance(config: RunConfig) -> float:
    variance = config.memory.noise_variance
    return training_variance(config).value if variance == AUTO else known_variance(variance)


def draw_texts(config: RunConfig) -> tuple[np.ndarray, CLAPIdentity]:
    """Draw the memory's texts; where their embeddings are not stored, embed just these.

    Returns:
        (at most ``memory.num_rows``, C) float32, and the CLAP that made them.

    Raises:
        DataError: There are no embedded triplets.
    """
    path, num_rows, splits = config.embedded_path, config.memory.num_rows, config.data.splits
    data = inspect(path)
    if data.stored:
        return distinct_embeddings(path, num_rows=num_rows, seed=config.seed, splits=splits)
    texts = distinct_texts(path, num_rows=num_rows, seed=config.seed, splits=splits)
    clap = build_clap(config.clap)
    check_identity(clap.identity, data.identity, where=config.clap_ref)
    return clap.encode_text(texts).numpy(), data.identity
