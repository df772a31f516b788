"""Fill a module from tensors by name; every name that is missing, extra or of another shape is reported."""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Size, Tensor, nn

from mats_ray.errors import ModelError

# Constants of the architecture: files of different ages have them or not; their values are never in doubt.
CONSTANTS = ("position_ids", "token_type_ids", "relative_position_index", "num_batches_tracked")


class NativeName(NamedTuple):
    """Where in a published file a tensor of ours comes from."""

    name: str
    third: int | None = None
    """Which third of its rows, for a query, key or value that the file keeps fused."""


def load_weights(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: str,
    native_name: Callable[[str], NativeName] = NativeName,
    unused: str | None = None,
) -> list[str]:
    """Copy tensors into a module.

    Args:
        module: Filled in place.
        state: Tensors under the file's names.
        source: What error messages call the file.
        native_name: Name of the file's tensor behind one of the module's.
        unused: Pattern of names in the file that the module has no use for.

    Returns:
        The names in the file that were left out.

    Raises:
        ModelError: Names every tensor that is missing, extra or mis-shaped.
    """
    own = module.state_dict()
    natives = {ours: native_name(ours) for ours in own}
    left_out = [name for name in state if unused and re.fullmatch(unused, name)]
    used = {name: state[name] for name in state.keys() - set(left_out)}
    check_tensors({natives[ours]: tensor.shape for ours, tensor in own.items()}, used, source=source)
    for ours, tensor in own.items():
        if not ours.endswith(CONSTANTS):
            tensor.copy_(_part(used[natives[ours].name], natives[ours].third))
    return sorted(left_out)


def _part(tensor: Tensor, third: int | None) -> Tensor:
    return tensor if third is None else tensor.chunk(3)[third]


def check_tensors(expected: Mapping[NativeName, Size], state: Mapping[str, Tensor], *, source: str) -> None:
    """Compare names and shapes.

    Raises:
        ModelError: Names every tensor that is missing, extra or mis-shaped.
    """
    shapes = {
        native.name: tuple(shape) if native.third is None else (3 * shape[0], *shape[1:])
        for native, shape in expected.items()
    }
    misshaped = [
        f"{name} is {tuple(state[name].shape)}, not {shapes[name]}"
        for name in _named(shapes.keys() & state.keys())
        if tuple(state[name].shape) != shapes[name]
    ]
    complaints = [
        f"{len(names)} tensors {what}: {', '.join(names)}"
        for what, names in (
            ("missing", _named(shapes.keys() - state.keys())),
            ("unknown", _named(state.keys() - shapes.keys())),
            ("of the wrong shape", misshaped),
        )
        if names
    ]
    if complaints:
        raise ModelError(f"{source} does not fit its model: {'; '.join(complaints)}")


def _named(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not name.endswith(CONSTANTS))


def dim(state: Mapping[str, Tensor], name: str, axis: int, *, default: int) -> int:
    """Read a size off a tensor; a missing tensor is complained about later, with all others."""
    return state[name].shape[axis] if name in state and state[name].ndim > axis else default


def numbers_in(state: Mapping[str, Tensor], pattern: str) -> list[int]:
    """List the number that the pattern finds in each name it matches: layers, blocks."""
    return [int(found[1]) for name in state if (found := re.match(pattern, name))]


def read_safetensors(files: Iterable[Path]) -> dict[str, Tensor]:
    """Read all tensors of one or more safetensors files.

    Raises:
        ModelError: A file is cut off or is no safetensors file.
    """
    state: dict[str, Tensor] = {}
    for file in files:
        try:
            state |= load_file(file)
        except SafetensorError as error:
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
