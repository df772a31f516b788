"""Fill a module from tensors by name; every name that is missing, extra or of another shape is reported."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors.torch import load_file
from torch import Size, Tensor, nn

from mats_ray.errors import ModelError

# Constants of the architecture: files of different ages have them or not; their values are never in doubt.
CONSTANTS = ("position_ids", "token_type_ids", "relative_position_index", "num_batches_tracked")


def load_weights(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Copy tensors into a module whose names are those of the file.

    Raises:
        ModelError: Names every tensor that is missing, extra or mis-shaped.
    """
    own = module.state_dict()
    check_tensors({name: tensor.shape for name, tensor in own.items()}, state, source=source)
    module.load_state_dict({name: state.get(name, own[name]) for name in own})


def check_tensors(expected: Mapping[str, Size], state: Mapping[str, Tensor], *, source: str) -> None:
    """Compare names and shapes.

    Raises:
        ModelError: Names every tensor that is missing, extra or mis-shaped.
    """
    missing = _named(expected.keys() - state.keys())
    extra = _named(state.keys() - expected.keys())
    misshaped = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(expected[name])}"
        for name in _named(expected.keys() & state.keys())
        if state[name].shape != expected[name]
    ]
    complaints = [
        f"{len(names)} tensors {what}: {', '.join(names)}"
        for what, names in (("missing", missing), ("unknown", extra), ("of the wrong shape", misshaped))
        if names
    ]
    if complaints:
        raise ModelError(f"{source} does not fit its model: {'; '.join(complaints)}")


def _named(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not name.endswith(CONSTANTS))


def read_safetensors(files: Iterable[Path]) -> dict[str, Tensor]:
    """Read all tensors of one or more safetensors files.

    Raises:
        ModelError: A file is cut off or is no safetensors file.
    """
    state: dict[str, Tensor] = {}
    for file in files:
        try:
            state |= load_file(file)
        except (
            Exception
        ) as error:  # safetensors raises its own type, which is not importable by a stable name
            raise ModelError(f"{file} cannot be read as safetensors: {error}") from error
    return state


def hash_files(files: Iterable[Path]) -> str:
    """Return the first 16 hex digits of the SHA-256 over the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]
