"""Modules of ours, and files as upstream MATS saves them, filled by the recipe."""

import torch

from tests.golden.recipe import fill


def draw_module(module, salt, *, prefix=""):
    """Overwrite every parameter with what the recipe draws for its upstream name."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(fill(salt, prefix + name, tuple(parameter.shape))))


def draw_connector(connector, salt):
    """Names of mapper and projection are upstream's."""
    draw_module(connector, salt)
