"""Deterministic weights by name, version 1: the golden numbers were computed with models filled like this.

The values of a tensor follow from a salt, its native name and its shape, through PCG64's bit stream alone.
"""

import math
import zlib
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "data"
_BLOCK = 1 << 15

# Constants of the architecture, which the recipe does not draw.
CONSTANTS = (
    "position_ids",
    "token_type_ids",
    "relative_position_index",
    "num_batches_tracked",
    "attn_mask",
    "conv_real.weight",
    "conv_imag.weight",
    "melW",
    ".attn.bias",
    ".attn.masked_bias",
    "inv_freq",
)


def golden_files(name):
    """One pytest parameter per salt."""
    files = sorted(GOLDEN.glob(f"{name}_*.npz"))
    assert files, f"no {name}_*.npz in {GOLDEN}"
    return [pytest.param(file, id=file.stem) for file in files]


def fill(salt, name, shape):
    """Draw the float32 tensor of that name and shape."""
    stream = np.random.PCG64(zlib.crc32(f"{salt}:{name}".encode()))
    values = np.empty(math.prod(shape), dtype=np.float32)
    # In blocks that stay in the cache: word embeddings have 38 million values.
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        block[:] = _scaled(_unit(stream, len(block)), name, shape)
    return values.reshape(shape)


def _unit(stream, count):
    """Uniform on [-sqrt(3), sqrt(3)): mean 0, variance 1."""
    x = (stream.random_raw(count) >> np.uint64(11)).astype(np.float64)
    x *= 2.0**-53
    x *= 2.0
    x -= 1.0
    x *= math.sqrt(3.0)
    return x


def _scaled(x, name, shape):
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_mean":
        return -30.0 + 10.0 * x if "bn0" in name else 0.1 * x
    if leaf == "running_var":
        return 400.0 * (1.0 + 0.25 * x) if "bn0" in name else 1.0 + 0.25 * x
    if leaf.startswith("logit_scale"):
        return math.log(1 / 0.07) + 0.1 * x
    if len(shape) == 1 and leaf == "weight":
        return 1.0 + 0.1 * x
    if len(shape) <= 1:
        return 0.05 * x
    x /= math.sqrt(math.prod(shape[1:]))
    return x
