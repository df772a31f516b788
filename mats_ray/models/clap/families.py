"""The table of CLAP families whose published checkpoints can be loaded and converted."""

from pathlib import Path
from typing import Any

from torch import Tensor

from mats_ray.errors import ModelError, abbreviated
from mats_ray.models.clap.laion import LAION
from mats_ray.models.clap.msclap import MSCLAP
from mats_ray.models.clap.tower_clap import Family
from mats_ray.models.foreign import read_torch_file, unwrap

FAMILIES: tuple[Family[Any], ...] = (LAION, MSCLAP)


def read_checkpoint(path: Path) -> tuple[Family[Any], dict[str, Tensor]]:
    """Read a published checkpoint: its family, recognised by its tensors, and its state dict.

    Raises:
        ModelError: The file cannot be read, or is of no known family.
    """
    state = unwrap(read_torch_file(path), source=str(path))
    for family in FAMILIES:
        if family.recognises(state.keys()):
            return family, state
    groups = sorted({name.split(".")[0] for name in state})
    raise ModelError(
        f"{path} holds neither {' nor '.join(family.title for family in FAMILIES)}; its tensors are named"
        f" {abbreviated(groups, most=8) or 'nothing'}"
    )
