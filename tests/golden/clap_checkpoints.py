"""CLAP checkpoint files in the layouts their authors published, filled by the recipe."""

import logging
import re

import numpy as np
import torch

from mats_ray.models.clap.frontend import LogMel
from tests.golden.recipe import CONSTANTS, fill

logger = logging.getLogger(__name__)


def parse(keys):
    """Golden key lists, "name|shape|dtype", as {name: (shape, dtype)}."""
    parts = (str(key).split("|") for key in keys)
    return {
        name: (tuple(int(size) for size in shape.split(",") if size), getattr(torch, dtype))
        for name, shape, dtype in parts
    }


def grow(keys, layer, *, num_layers, resize):
    """Repeat the first layer of a small model and change sizes, to get the keys of a bigger one."""
    grown = {}
    for name, (shape, dtype) in keys.items():
        found = re.match(rf"({layer}\.)(\d+)(\..*)", name)
        names = [f"{found[1]}{index}{found[3]}" for index in range(num_layers)] if found else [name]
        grown |= {each: (resize(each, shape), dtype) for each in names}
    return grown


def state_dict(keys, salt, *, log_mel: LogMel):
    """Tensors for all keys, in the file's order."""
    real, imag = log_mel.kernels.chunk(2)
    front_end = {"conv_real.weight": real, "conv_imag.weight": imag, "melW": log_mel.bank_KM}
    state = {}
    for name, (shape, dtype) in keys.items():
        own = [tensor for suffix, tensor in front_end.items() if name.endswith(suffix)]
        if own:
            state[name] = own[0].clone()
        elif name.endswith(CONSTANTS):
            state[name] = torch.zeros(shape, dtype=dtype)
        else:
            state[name] = torch.from_numpy(fill(salt, name, shape))
    return state


def save_laion(path, state):
    """As LAION's training code: distributed names, pickle protocol 4, numpy scalars beside the weights."""
    state = {f"module.{name}": tensor for name, tensor in state.items()}
    state["module.text_branch.embeddings.position_ids"] = torch.arange(514)[None]
    checkpoint = {
        "epoch": np.int64(45),
        "name": "best",
        "state_dict": state,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3), "step": 7}}, "lr": np.float64(1e-4)},
        "scaler": {"scale": np.float32(65536.0), "history": np.arange(3)},
    }
    torch.save(checkpoint, path, pickle_protocol=4)


def save_msclap(path, state):
    """As MS-CLAP: the weights under "model", the causal masks of an old transformers among them."""
    masks = {
        f"caption_encoder.base.h.0.attn.{name}": torch.ones(1, 1, 4, 4) for name in ("bias", "masked_bias")
    }
    torch.save({"model": state | masks}, path)


def wave(clip):
    """int16 samples as audio decoders return them."""
    return clip.astype(np.float32) / 32768.0


def assert_near(actual, expected, tolerance, what):
    """Compare with the reference's numbers; the difference goes to the log (--log-level=INFO)."""
    actual, expected = torch.as_tensor(actual).cpu(), torch.as_tensor(expected)
    assert actual.shape == expected.shape
    difference = (actual - expected).abs().max().item()
    logger.info("%s: %.1e", what, difference)
    assert difference <= tolerance, f"{what} differs by {difference:.1e}, more than {tolerance:.0e}"
