"""Weights computed from their names: no random state, the same on every machine.

Recipe 1 of the golden numbers (tests/golden/recipe.py): a tensor follows from a salt, its name and its shape
through the bit stream of PCG64. Values have the scale of a fresh initialisation: 1 / sqrt(fan-in).
"""

import math
import zlib

import numpy as np

SALT = "rehearsal"
_BLOCK = 1 << 15
"""Values computed at a time, so that intermediate ones stay in the processor's cache."""


def fill(name: str, shape: tuple[int, ...], *, salt: str = SALT) -> np.ndarray:
    """Compute the float32 tensor of a name and shape."""
    stream = np.random.PCG64(zlib.crc32(f"{salt}:{name}".encode()))
    values = np.empty(math.prod(shape), dtype=np.float32)
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        block[:] = _scaled(_unit(stream, len(block)), name, shape)
    return values.reshape(shape)


def _unit(stream: np.random.PCG64, count: int) -> np.ndarray:
    """Draw from the uniform distribution on [-sqrt(3), sqrt(3)): mean 0, variance 1."""
    raw = np.asarray(stream.random_raw(count), dtype=np.uint64)
    values = (raw >> np.uint64(11)).astype(np.float64)
    values *= 2.0**-53
    values *= 2.0
    values -= 1.0
    values *= math.sqrt(3.0)
    return values


def _scaled(unit: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
    leaf, is_mel = name.rsplit(".", 1)[-1], "bn0" in name
    if leaf == "running_mean":  # of log-mel in dB, or of features
        return -30.0 + 10.0 * unit if is_mel else 0.1 * unit
    if leaf == "running_var":
        return 400.0 * (1.0 + 0.25 * unit) if is_mel else 1.0 + 0.25 * unit
    if leaf.startswith("logit_scale"):
        return math.log(1 / 0.07) + 0.1 * unit
    if len(shape) == 1 and leaf == "weight":
        return 1.0 + 0.1 * unit
    if len(shape) <= 1:
        return 0.05 * unit
    unit /= math.sqrt(math.prod(shape[1:]))
    return unit
