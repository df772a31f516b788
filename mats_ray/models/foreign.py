"""Read files of others: every failure is one ModelError, and no code in them is run.

``torch.load(weights_only=True)`` comes first. It cannot read LAION's files (numpy scalars, pickle
protocol 4), so an unpickler that allows only names for rebuilding tensors comes second.
"""

import _codecs
import pickle
import tarfile
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._utils import _rebuild_parameter, _rebuild_tensor_v2

from mats_ray.errors import ModelError, abbreviated
from mats_ray.models.weights import read_safetensors, refuse_repeated

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"

# Functions that pickled numpy values name; found through numpy, because their modules have moved.
_NUMPY_SCALAR = np.float64(0).__reduce__()[0]
_NUMPY_ARRAY = np.zeros(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "scalar"): _NUMPY_SCALAR,
    ("numpy._core.multiarray", "scalar"): _NUMPY_SCALAR,
    ("numpy.core.multiarray", "_reconstruct"): _NUMPY_ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _NUMPY_ARRAY,
    ("_codecs", "encode"): _codecs.encode,
}


@contextmanager
def one_error(source: str) -> Iterator[None]:
    """Turn any exception of a library about a file into one line.

    Args:
        source: Name of the file in that line.

    Raises:
        ModelError: Something was raised; kept as it is if it is one already.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        is_clear = isinstance(error, (OSError, ValueError, RuntimeError, ImportError)) and lines
        kind = "" if is_clear else f"{type(error).__name__} "
        reason = abbreviated(
            [" ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])], width=300
        )
        raise ModelError(f"{source} cannot be loaded: {kind}{reason}".rstrip()) from error


class _TensorUnpickler(pickle.Unpickler):
    """Resolves the names above; torch adds its storage types itself."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}") from None


def _load(stream: Any, **options: Any) -> Any:
    return _TensorUnpickler(stream, **options).load()


# torch.load uses these names of its pickle module only.
_TENSOR_PICKLE = SimpleNamespace(__name__="tensor_pickle", Unpickler=_TensorUnpickler, load=_load)


def read_torch_file(path: Path) -> Any:
    """Read a file written by ``torch.save``, tensors on the CPU.

    Raises:
        ModelError: It is something else, cut off, or holds more than tensors and plain values.
    """
    with path.open("rb") as stream:
        magic = stream.read(4)
    # torch.load would also unpack a tar archive of ancient torch versions.
    if not magic.startswith((_ZIP, _PICKLE)) or tarfile.is_tarfile(path):
        raise ModelError(f"{path} is not a file of torch.save")
    try:
        return _load_restricted(path, in_place=magic == _ZIP)
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path} is refused: {error}; only tensors and plain values are read") from error
    except (RuntimeError, EOFError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise ModelError(f"{path} cannot be read, it may be cut off: {error}") from error


def _load_restricted(path: Path, *, in_place: bool) -> Any:
    # In place: of a training checkpoint only the weights are read, not the optimizer's state beside them.
    try:
        with warnings.catch_warnings():
            # It warns of pickle protocol 4 before it fails on it.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=in_place)
    except pickle.UnpicklingError:
        return torch.load(
            path, map_location="cpu", weights_only=False, mmap=in_place, pickle_module=_TENSOR_PICKLE
        )


def unwrap(content: Any, *, source: str) -> dict[str, Tensor]:
    """Remove what training code wraps around the weights.

    Raises:
        ModelError: It does not contain a state dict.
    """
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ModelError(f"{source} holds a {type(content).__name__}, not a state dict")
    other = [
        str(name)
        for name, value in content.items()
        if not (isinstance(name, str) and isinstance(value, Tensor))
    ]
    if other:
        raise ModelError(f"{source}: {len(other)} entries are not tensors: {abbreviated(other)}")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def weight_files(folder: Path) -> list[Path]:
    """Find a directory's weight files, sorted by name: safetensors, else files of ``torch.save``."""
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def read_weight_files(files: list[Path]) -> dict[str, Tensor]:
    """Read the files that ``weight_files`` found.

    Raises:
        ModelError: A file cannot be read, or two hold the same tensor.
    """
    if files[0].suffix == ".safetensors":
        return read_safetensors(files)
    state: dict[str, Tensor] = {}
    for file in files:
        part = unwrap(read_torch_file(file), source=str(file))
        refuse_repeated(state.keys() & part.keys(), file=file)
        state |= part
    return state
