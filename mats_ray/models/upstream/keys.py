"""The names in a released MATS checkpoint: which part of the model each tensor belongs to.

The saver drops every frozen parameter and keeps every buffer, so a file holds mapper, projection and LoRA;
whether it holds parts of CLAP and of the language model depends on how its run was set up.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from mats_ray.config.model import MapperConfig
from mats_ray.errors import ModelError, abbreviated
from mats_ray.models.weights import numbers_in

NUM_HEADS = 8
"""Number of attention heads in every release; files do not contain it."""

_UNUSED = re.compile(r"ln_audio\.(weight|bias)|llama_model\..*rotary_emb\.inv_freq")
_CONNECTOR = re.compile(r"audio_mapper\..+|audio_llama_proj\.(weight|bias)")
_LORA = re.compile(r"llama_model\.(.+\.lora_[AB]\.default\.weight)")
_LLM = re.compile(r"llama_model\.(?:base_model\.model\.)?(.+\.(?:weight|bias))")
_CLAP = {"audio_encoder.": "audio_encoder.", "clap_text_encoder.": "caption_encoder."}


@dataclass(frozen=True, slots=True)
class Parts:
    """Tensors of a checkpoint, sorted; names are those of the model that each part belongs to."""

    connector: dict[str, Tensor] = field(default_factory=dict)
    """Our ``Connector``'s names, which are upstream's."""
    lora: dict[str, Tensor] = field(default_factory=dict)
    """peft's names, ``base_model.model...lora_A.default.weight``."""
    llm: dict[str, Tensor] = field(default_factory=dict)
    """transformers' names, without the wrappers of peft's versions."""
    clap: dict[str, Tensor] = field(default_factory=dict)
    """MS-CLAP's names."""
    unused: list[str] = field(default_factory=list)
    """Upstream's own names: ``ln_audio``, which upstream never applies, and constants of the architecture."""


def sort_keys(state: Mapping[str, Tensor], *, source: str) -> Parts:
    """Sort a checkpoint's tensors by name into parts of the model.

    Raises:
        ModelError: Names every tensor that belongs to nothing known.
    """
    parts, unknown = Parts(), list[str]()
    for name, tensor in state.items():
        clap_prefix = next((prefix for prefix in _CLAP if name.startswith(prefix)), None)
        if _UNUSED.fullmatch(name):
            parts.unused.append(name)
        elif _CONNECTOR.fullmatch(name):
            parts.connector[name] = tensor
        elif clap_prefix:
            parts.clap[_CLAP[clap_prefix] + name.removeprefix(clap_prefix)] = tensor
        elif found := _LORA.fullmatch(name):
            parts.lora[found[1]] = tensor
        elif found := _LLM.fullmatch(name):
            parts.llm[found[1].replace(".base_layer.", ".")] = tensor
        else:
            unknown.append(name)
    if unknown:
        names = abbreviated(sorted(unknown))
        raise ModelError(f"{source} holds {len(unknown)} tensors that belong to no part of MATS: {names}")
    return parts


def mapper_config(connector: Mapping[str, Tensor], *, source: str) -> tuple[MapperConfig, int]:
    """Read the mapper's sizes from its tensors: the configuration, and the width of CLAP.

    Raises:
        ModelError: The mapper is of no known kind.
    """
    if len(projection := _shape(connector, "audio_llama_proj.weight")) != 2:
        raise ModelError(
            f"{source} holds no projection, audio_llama_proj.weight: it is no checkpoint of MATS"
        )
    width = projection[1]
    if len(queries := _shape(connector, "audio_mapper.prefix_const")) == 2:
        rows, clap_dim = (*_shape(connector, "audio_mapper.linear.weight"), 0, 0)[:2]
        layers = numbers_in(connector, r"audio_mapper\.transformer\.layers\.(\d+)\.")
        config = MapperConfig(
            hidden_dim=width,
            prefix_length=queries[0],
            content_length=max(1, rows // width),
            num_layers=1 + max(layers, default=0),
            num_heads=NUM_HEADS,
        )
        return config, clap_dim
    if len(last := _shape(connector, "audio_mapper.model.2.weight")) == 2:
        config = MapperConfig(type="mlp", hidden_dim=width, prefix_length=max(1, last[0] // width))
        return config, (*_shape(connector, "audio_mapper.model.0.weight"), 0, 0)[1]
    raise ModelError(
        f"{source} holds a mapper that is neither upstream's transformer nor its mlp: "
        f"{abbreviated(sorted(name for name in connector if name.startswith('audio_mapper.'))) or 'nothing'}"
    )


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    return tuple(tensors[name].shape) if name in tensors else ()
