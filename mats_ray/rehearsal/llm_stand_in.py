"""Stand-ins for language models of the hub: published ``config.json``, names, shapes, types, sharding.

Tensors are computed and written one shard at a time: a model may be larger than the memory. One row departs
from the recipe, that of the end token in the output layer, which is zero: so answers have their full length,
and the time and memory of a stage are those of its longest answers.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from mats_ray.errors import ConfigError
from mats_ray.models.stand_in import mark_stand_in
from mats_ray.models.weights import INDEX
from mats_ray.rehearsal.recipe import fill
from mats_ray.rehearsal.tokenizer_stand_ins import (
    write_gpt2_tokenizer,
    write_llama_tokenizer,
    write_qwen_tokenizer,
)

SHARD_BYTES = 5 * 10**9
"""Most bytes of one file, as published models have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A language model as its authors published it."""

    config: Mapping[str, Any]
    """Content of ``config.json``."""
    layers_key: str
    """Key of the number of layers in it."""
    dtype: torch.dtype
    write_tokenizer: Callable[[Path, Sequence[str]], None]
    output: str
    """Name of the output layer's weights in the file; the embedding's where they are tied."""
    prefix: str = ""
    """Prefix of transformers' names that the file does not have."""
    unused: Callable[[int], Mapping[str, Tensor]] = lambda _: {}
    """(number of layers) to tensors that the file holds and the model does not read."""


def _causal_masks(num_layers: int) -> dict[str, Tensor]:
    mask = torch.ones(1, 1, 1024, 1024).tril()
    return {f"h.{layer}.attn.bias": mask.clone() for layer in range(num_layers)}


PUBLISHED = {
    "openai-community/gpt2": Published(
        config={
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "activation_function": "gelu_new",
            "attn_pdrop": 0.1,
            "bos_token_id": 50256,
            "embd_pdrop": 0.1,
            "eos_token_id": 50256,
            "initializer_range": 0.02,
            "layer_norm_epsilon": 1e-05,
            "n_ctx": 1024,
            "n_embd": 768,
            "n_head": 12,
            "n_layer": 12,
            "n_positions": 1024,
            "resid_pdrop": 0.1,
            "vocab_size": 50257,
        },
        layers_key="n_layer",
        dtype=torch.float32,
        write_tokenizer=write_gpt2_tokenizer,
        output="wte.weight",
        prefix="transformer.",
        unused=_causal_masks,
    ),
    "lmsys/vicuna-7b-v1.5": Published(
        config={
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "hidden_size": 4096,
            "initializer_range": 0.02,
            "intermediate_size": 11008,
            "max_position_embeddings": 4096,
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "num_key_value_heads": 32,
            "pad_token_id": 0,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": None,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            "vocab_size": 32000,
        },
        layers_key="num_hidden_layers",
        dtype=torch.bfloat16,
        write_tokenizer=write_llama_tokenizer,
        output="lm_head.weight",
    ),
    "Qwen/Qwen3-8B": Published(
        config={
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 151643,
            "eos_token_id": 151645,
            "head_dim": 128,
            "hidden_act": "silu",
            "hidden_size": 4096,
            "initializer_range": 0.02,
            "intermediate_size": 12288,
            "max_position_embeddings": 40960,
            "max_window_layers": 36,
            "num_attention_heads": 32,
            "num_hidden_layers": 36,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": 1000000,
            "sliding_window": None,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            "use_sliding_window": False,
            "vocab_size": 151936,
        },
        layers_key="num_hidden_layers",
        dtype=torch.bfloat16,
        write_tokenizer=write_qwen_tokenizer,
        output="lm_head.weight",
    ),
}
"""By hub id. Vicuna's published files are float16 in torch's format; its stand-in is bfloat16 safetensors."""


def published(ref: str) -> Published:
    """Return what is known of a language model.

    Raises:
        ConfigError: Nothing is.
    """
    if ref not in PUBLISHED:
        raise ConfigError(
            f"there is no stand-in for model.llm.path={ref}; there are some for"
            f" {', '.join(sorted(PUBLISHED))}"
        )
    return PUBLISHED[ref]


def write_llm(ref: str, folder: Path, texts: Sequence[str], *, num_layers: int | None) -> Path:
    """Write a stand-in: config, weights, tokenizer, marker.

    Args:
        ref: Hub id.
        folder: Where to.
        texts: Texts that the tokenizer is trained on.
        num_layers: Number of layers; None: as published.

    Raises:
        ConfigError: No such model is known.
    """
    model = published(ref)
    mark_stand_in(folder, of=ref)
    config = dict(model.config)
    if num_layers is not None:
        config[model.layers_key] = num_layers
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    _write_shards(folder, model, config)
    model.write_tokenizer(folder, texts)
    return folder


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Read names and shapes off the model class; a tied output layer is stored once."""
    tree: Any = AutoConfig.for_model(**config)
    with torch.device("meta"):
        llm = AutoModelForCausalLM.from_config(tree)
    tied: Any = llm.all_tied_weights_keys
    return {name: tuple(tensor.shape) for name, tensor in llm.state_dict().items() if name not in tied}


def _write_shards(folder: Path, model: Published, config: Mapping[str, Any]) -> None:
    unused = model.unused(config[model.layers_key])
    shapes = {name.removeprefix(model.prefix): shape for name, shape in _shapes(config).items()}
    width = model.dtype.itemsize
    shards = list(_split({name: width * torch.Size(shape).numel() for name, shape in shapes.items()}))
    weight_map, total = dict[str, str](), 0
    for number, names in enumerate(shards, start=1):
        one = len(shards) == 1
        file = "model.safetensors" if one else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {name: torch.from_numpy(fill(name, shapes[name])).to(model.dtype) for name in names}
        if model.output in tensors:
            tensors[model.output][config["eos_token_id"]] = 0
        tensors |= unused if number == 1 else {}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _split(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Split tensors into shards, in order."""
    names, filled = list[str](), 0
    for name, size in sizes.items():
        if names and filled + size > SHARD_BYTES:
            yield names
            names, filled = [], 0
        names.append(name)
        filled += size
    yield names
