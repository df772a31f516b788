"""A fitted bridge of each kind, 8-d, and audio for it."""

import torch
from torch.nn.functional import normalize

from mats_ray.config.bridge import ProjectionConfig, SpectralConfig
from mats_ray.config.santa import SantaConfig
from mats_ray.models.bridges.bridge import NoBridge
from mats_ray.models.bridges.mean_shift import MeanShift
from mats_ray.models.bridges.projection import Projection
from mats_ray.models.bridges.santa import Santa
from mats_ray.models.bridges.spectral import Spectral
from mats_ray.models.santa import SantaMemory

DIM = 8


def drawn(count, *, seed=0, dim=DIM):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def units(count, *, seed=0, dim=DIM):
    return normalize(drawn(count, seed=seed, dim=dim), dim=-1)


def pairs(count, *, seed=0, dim=DIM, axes=3):
    """Audio and text that share ``axes`` directions and lie in cones of their own."""
    shared = drawn(count, seed=seed, dim=axes)
    audio = shared @ drawn(axes, seed=1, dim=dim) + 4 * drawn(1, seed=2, dim=dim)
    text = shared @ drawn(axes, seed=3, dim=dim) + 4 * drawn(1, seed=4, dim=dim)
    return normalize(audio, dim=-1), normalize(text, dim=-1)


def fitted(dim=DIM):
    memory = SantaMemory.build(units(40, dim=dim), num_clusters=3)
    audio, text = pairs(30, dim=dim)
    return {
        "santa": Santa(memory, SantaConfig(num_neighbours=4)),
        "santa as upstream": Santa(memory, SantaConfig(num_neighbours=4, compat="upstream")),
        "mean_shift": MeanShift.fit(text, audio),
        "projection": Projection.onto(memory, ProjectionConfig()),
        "spectral": Spectral.fit(audio, text, numbers=SpectralConfig(num_axes=5)),
        "none": NoBridge(),
    }
