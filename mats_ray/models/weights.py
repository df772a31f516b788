"""Tensors of model files: a tensor that is missing, unused or of the wrong shape or type is a ModelError.

Every load makes one comparison, ``refuse_misfits``: CLAP, connector, memory, adapter, language model.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mats_ray.errors import ModelError, abbreviated

# Constants of the architecture, which only some versions of a file contain.
CONSTANTS = ("position_ids", "token_type_ids", "relative_position_index", "num_batches_tracked")

# Types of stored weights; of others, quantised ones, the scale is not known here.
_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_FLOAT_CODES = {"F16", "BF16", "F32", "F64"}  # as the header of a safetensors file names them

INDEX = "model.safetensors.index.json"


class NativeName(NamedTuple):
    """Place in a published file of one of our tensors."""

    name: str
    third: int | None = None
    """Index of the third of its rows, for a query, key or value that the file keeps fused."""


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
        source: Name of the file in error messages.
        native_name: Name of the file's tensor behind one of the module's.
        unused: Pattern of names in the file that the module has no use for.

    Returns:
        The names in the file that were left out.

    Raises:
        ModelError: See ``check_tensors``.
    """
    own = module.state_dict()
    natives = {ours: native_name(ours) for ours in own}
    left_out = [name for name in state if unused and re.fullmatch(unused, name)]
    used = {name: state[name] for name in state.keys() - set(left_out)}
    check_tensors({natives[ours]: tensor for ours, tensor in own.items()}, used, source=source)
    for ours, tensor in own.items():
        if not ours.endswith(CONSTANTS):
            tensor.copy_(_part(used[natives[ours].name], natives[ours].third))
    return sorted(left_out)


def _part(tensor: Tensor, third: int | None) -> Tensor:
    return tensor if third is None else tensor.chunk(3)[third]


def check_tensors(expected: Mapping[NativeName, Tensor], state: Mapping[str, Tensor], *, source: str) -> None:
    """Compare tensors of a file with those of the model they are for.

    Args:
        expected: The model's own; only names, shapes and types are compared, so they may be on "meta".
        state: Tensors under the file's names.
        source: Name of the file in the error message.

    Raises:
        ModelError: A tensor is missing, unknown, mis-shaped, of another type, or not finite.
    """
    required = {
        native.name: (
            tuple(own.shape) if native.third is None else (3 * own.shape[0], *own.shape[1:]),
            own.dtype,
        )
        for native, own in expected.items()
        if not native.name.endswith(CONSTANTS)
    }
    given = {name: tensor for name, tensor in state.items() if not name.endswith(CONSTANTS)}
    shared = sorted(required.keys() & given.keys())
    refuse_misfits(
        source,
        missing=required.keys() - given.keys(),
        unknown=given.keys() - required.keys(),
        misshaped=[
            f"{name} is {tuple(given[name].shape)}, not {required[name][0]}"
            for name in shared
            if tuple(given[name].shape) != required[name][0]
        ],
        mistyped=[
            f"{name} is {_type_name(given[name])}"
            for name in shared
            if not _is_compatible(given[name].dtype, required[name][1])
        ],
        not_finite=not_finite({name: given[name] for name in shared}),
    )


def _is_compatible(given: torch.dtype, required: torch.dtype) -> bool:
    return given in _FLOATS if required in _FLOATS else given == required


def _type_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def refuse_misfits(
    source: str,
    *,
    missing: Iterable[str] = (),
    unknown: Iterable[str] = (),
    misshaped: Iterable[str] = (),
    mistyped: Iterable[str] = (),
    not_finite: Iterable[str] = (),
) -> None:
    """Refuse a file whose tensors are not exactly those of its model; each argument lists names.

    Raises:
        ModelError: Counts the tensors of each kind and names the first ones.
    """
    kinds = {
        "missing": missing,
        "unknown": unknown,
        "of the wrong shape": misshaped,
        "of the wrong type": mistyped,
        "not finite": not_finite,
    }
    misfits = [
        f"{len(names)} tensors {what}: {abbreviated(names)}"
        for what, names in ((what, sorted(names)) for what, names in kinds.items())
        if names
    ]
    if misfits:
        raise ModelError(f"{source} does not fit its model: {'; '.join(misfits)}")


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Name the tensors with NaN or an infinity in them, without copying any."""
    return [
        name
        for name, tensor in tensors.items()
        if tensor.dtype in _FLOATS
        and tensor.numel()
        and not tensor.is_meta
        and not all(bool(end.isfinite()) for end in tensor.aminmax())
    ]


def dim(state: Mapping[str, Tensor], name: str, axis: int, *, default: int) -> int:
    """Read a size from a tensor; ``default`` for a missing one, which is reported later with all others."""
    return state[name].shape[axis] if name in state and state[name].ndim > axis else default


def numbers_in(state: Mapping[str, Tensor], pattern: str) -> list[int]:
    """List the number that the pattern finds in each name it matches: layers, blocks."""
    return [int(found[1]) for name in state if (found := re.match(pattern, name))]


def read_safetensors(files: Iterable[Path]) -> dict[str, Tensor]:
    """Read all tensors of one or more safetensors files.

    Raises:
        ModelError: A file is missing, cut off or no safetensors file, or two of them hold the same tensor.
    """
    state: dict[str, Tensor] = {}
    for file in files:
        with _opened(file) as stream:
            names = list(stream.keys())
            refuse_repeated(state.keys() & set(names), file=file)
            state |= {name: stream.get_tensor(name) for name in names}
    return state


def refuse_repeated(names: Iterable[str], *, file: Path) -> None:
    """Refuse a file that holds tensors which another file of the same model holds, too.

    Raises:
        ModelError: There are such names.
    """
    if twice := sorted(names):
        raise ModelError(f"{file} repeats tensors of a file beside it: {abbreviated(twice)}")


def safetensors_metadata(file: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file.

    Raises:
        ModelError: The file is missing, cut off or no safetensors file.
    """
    with _opened(file) as stream:
        return dict(stream.metadata() or {})


def _opened(file: Path) -> Any:
    try:
        return safe_open(str(file), framework="pt")
    except FileNotFoundError:
        raise ModelError(f"no {file.name} in {file.parent}") from None
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} cannot be read as safetensors (cut off?): {error}") from error


def check_shards(folder: Path) -> None:
    """Compare a model folder's safetensors files with its index: all named are there, all there are used.

    ``pytorch_model.bin`` beside safetensors is common on the hub: the same weights again, never read.

    Raises:
        ModelError: A file or tensor is named that is not there, or is there and would not be read.
    """
    whole, index = folder / "model.safetensors", folder / INDEX
    shards = {file.name for file in folder.glob("model-*-of-*.safetensors")}
    weight_map = _weight_map(index) if index.is_file() and not whole.is_file() else {}
    named = set(weight_map.values())
    if absent := sorted(name for name in named if not (folder / name).is_file()):
        raise ModelError(f"{index} names {len(absent)} files that are not there: {abbreviated(absent)}")
    used = whole.name if whole.is_file() else INDEX
    if (folder / used).is_file() and (unused := sorted(shards - named)):
        raise ModelError(f"{folder} holds shards that are no part of its {used}: {abbreviated(unused)}")
    found = set[str]()
    for shard in sorted(named):
        names = tensor_types(folder / shard).keys()
        refuse_repeated(found & names, file=folder / shard)
        found |= names
    if lost := sorted(weight_map.keys() - found):
        raise ModelError(f"{index} names {len(lost)} tensors that are not there: {abbreviated(lost)}")


def _weight_map(index: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(index.read_text("utf-8"))["weight_map"]
        if all(isinstance(shard, str) for shard in weight_map.values()):
            return weight_map
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ModelError(f"{index} is not an index of shards: it has no weight_map of tensor names to files")


def tensor_types(file: Path) -> dict[str, str]:
    """Read the names and types ("F32", "I8") of a safetensors file's tensors from its header.

    Raises:
        ModelError: The file is missing, cut off or no safetensors file.
    """
    with _opened(file) as stream:
        return {name: stream.get_slice(name).get_dtype() for name in stream.keys()}  # noqa: SIM118


def odd_types(folder: Path) -> dict[str, str]:
    """Find the tensors of a model folder's safetensors files that are not stored as plain floats.

    Returns:
        Their names and types ("I8").

    Raises:
        ModelError: A file is cut off or no safetensors file.
    """
    types = {
        name: code
        for file in sorted(folder.glob("model*.safetensors"))
        for name, code in tensor_types(file).items()
    }
    return {name: code for name, code in types.items() if code not in _FLOAT_CODES}


def check_vocabulary(tokenizer: Any, num_rows: int, *, source: str) -> None:
    """Compare a tokenizer with the embedding table its ids look up.

    Special tokens, but for those around every text, may lack a row ("[PAD]" often does): no text gives them.

    Raises:
        ModelError: It has ids that the table has no row for.
    """
    framing = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id}
    special = {id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
    largest = max({*tokenizer.get_vocab().values()} - (special - framing), default=-1)
    if largest >= num_rows:
        raise ModelError(f"{source} has ids up to {largest}, its model has embeddings for {num_rows}")


def hash_files(files: Iterable[Path]) -> str:
    """Return the first 16 hex digits of the SHA-256 over the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]
