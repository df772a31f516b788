"""Embedded triplets to a Santa memory file, and back."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from mats_ray.config import RunConfig
from mats_ray.data.embedded import distinct_embeddings, distinct_texts, inspect
from mats_ray.data.triplets import check_identity
from mats_ray.errors import DataError
from mats_ray.models.build import build_clap
from mats_ray.models.santa import SantaMemory
from mats_ray.storage import read_bytes, write_file
from mats_ray.types import CLAPIdentity

_CLAP = "clap"


def build_memory(config: RunConfig) -> SantaMemory:
    """Draw ``memory.num_rows`` distinct texts, noise and cluster them, write ``config.memory_path``.

    A small data set yields all its texts, in at most as many clusters as rows.

    Raises:
        DataError: There are no embedded triplets.
    """
    settings = config.memory
    embeddings_NC, clap = _draw(config)
    memory = SantaMemory.build(
        torch.from_numpy(embeddings_NC),
        num_clusters=min(settings.num_clusters, len(embeddings_NC)),
        noise_variance=settings.noise_variance,
        num_iterations=settings.num_iterations,
        seed=config.seed,
        provenance={
            _CLAP: str(clap),
            "noise_variance": str(settings.noise_variance),
            "seed": str(config.seed),
        },
    )
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch) / "memory.safetensors"
        memory.save(local)
        write_file(config.memory_path, local)
    return memory


def _draw(config: RunConfig) -> tuple[np.ndarray, CLAPIdentity]:
    """Draw the memory's texts; where their embeddings are not stored, embed just these."""
    path, num_rows, splits = config.embedded_path, config.memory.num_rows, config.data.splits
    data = inspect(path)
    if data.stored:
        return distinct_embeddings(path, num_rows=num_rows, seed=config.seed, splits=splits)
    texts = distinct_texts(path, num_rows=num_rows, seed=config.seed, splits=splits)
    clap = build_clap(config.clap)
    check_identity(clap.identity, data.identity, where=config.clap_ref)
    return clap.encode_text(texts).numpy(), data.identity


def check_memory(config: RunConfig, clap: CLAPIdentity) -> None:
    """Refuse a memory that does not belong to the embeddings a model is trained on.

    Raises:
        DataError: It was made of another CLAP's embeddings.
        ModelError: The file is no Santa memory, or cut off.
    """
    path = config.memory_path
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch) / "memory.safetensors"
        local.write_bytes(read_bytes(path))
        made_with = SantaMemory.load(local).provenance.get(_CLAP, str(clap))
    if made_with != str(clap):
        raise DataError(
            f"the Santa memory {path} was made with {made_with}, not with {clap}; run `mats memory` again"
        )
