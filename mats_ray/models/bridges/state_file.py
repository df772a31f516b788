"""The file of a bridge's state: one safetensors, its metadata the bridge and where it comes from."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from mats_ray.config.bridge import BridgeName
from mats_ray.errors import ModelError, abbreviated
from mats_ray.models.foreign import one_error
from mats_ray.models.weights import NativeName, check_tensors, dim, read_safetensors, safetensors_metadata

_FORMAT = "mats_bridge_"


def save_state(
    path: str | Path, bridge: BridgeName, tensors: Mapping[str, Tensor], provenance: Mapping[str, str]
) -> None:
    """Write one safetensors file; equal states are equal files."""
    whole = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, str(path), metadata={_FORMAT + bridge: json.dumps(dict(provenance), sort_keys=True)})


def load_state(
    path: str | Path, bridge: BridgeName, shapes: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file written by ``save_state``: tensors and provenance.

    Args:
        path: Of the file.
        bridge: Whose state it must be.
        shapes: Letters of each tensor's dimensions, equal letters for equal sizes: ``{"mean": "C"}``.

    Raises:
        ModelError: The file is missing, cut off, of another bridge, or its tensors do not fit together.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(
            f"no state of the bridge {bridge!r} at {path}; make one with `mats memory` and "
            f"model.bridge={bridge}"
        )
    tensors, metadata = read_safetensors([path]), safetensors_metadata(path)
    if _FORMAT + bridge not in metadata:
        raise ModelError(
            f"{path} is not the state of a bridge {bridge!r}; it holds {abbreviated(sorted(tensors))}"
        )
    sizes: dict[str, int] = {}
    for name, letters in shapes.items():
        for place, letter in enumerate(letters):
            sizes.setdefault(letter, dim(tensors, name, place, default=1))
    with torch.device("meta"):
        expected = {
            NativeName(name): torch.empty([sizes[letter] for letter in letters])
            for name, letters in shapes.items()
        }
    check_tensors(expected, tensors, source=f"the state of the bridge {bridge!r} at {path}")
    with one_error(f"the provenance of the bridge's state {path}"):
        provenance = dict(json.loads(metadata[_FORMAT + bridge]))
    # cloned into memory aligned as torch aligns: the last bit of a product depends on it
    return {name: tensors[name].float().clone() for name in shapes}, provenance
