"""The one place that seeds torch's global generators: dropout draws from nothing else."""

import hashlib

import torch


def seed_step(*, seed: int, step: int, rank: int) -> None:
    """Seed dropout for one update of one worker.

    It follows from (seed, step, rank), so a resumed run draws the same masks and no generator state needs to
    be kept in checkpoints.
    """
    digest = hashlib.blake2b(f"{seed}:{step}:{rank}".encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "big") >> 1)
