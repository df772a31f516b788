"""The one place that seeds torch's global generators: dropout draws from nothing else."""

import hashlib

import torch


def dropout_seeds(*, seed: int, step: int, count: int, rank: int, num_workers: int) -> list[int]:
    """Return one seed for each micro-batch of one worker in one update.

    They follow from (seed, step, place of the micro-batch in the global batch): a resumed run draws the same
    masks, so does one with another number of workers, and no generator state needs to be kept in checkpoints.
    """
    return [_hash(f"{seed}:{step}:{i * num_workers + rank}") for i in range(count)]


def seed_dropout(seed: int) -> None:
    """Seed torch's global generators for the forward pass of one micro-batch."""
    torch.manual_seed(seed)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
