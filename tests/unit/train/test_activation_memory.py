"""Counted bytes of activations against those that autograd keeps."""

from functools import partial

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen3Config

from mats_ray.config.model import LLMConfig, LoRAConfig, MapperConfig
from mats_ray.models.build import build_connector
from mats_ray.models.llm import attach
from mats_ray.train.activation_memory import (
    language_model_bytes,
    logits_bytes,
    mapper_bytes,
    unfused_attention_bytes,
)
from mats_ray.train.flops import KNOWN_SHAPES, llm_shape

BATCH, TOKENS = 2, 64
SMALL = {"vocab_size": 100, "bos_token_id": 0, "eos_token_id": 1, "attn_implementation": "sdpa"}


def llama(num_layers, **changed):
    sizes = {"hidden_size": 256, "intermediate_size": 688, "num_attention_heads": 4}
    return LlamaConfig(num_hidden_layers=num_layers, **SMALL | sizes | changed)


def qwen(num_layers):
    sizes = {"hidden_size": 256, "intermediate_size": 768, "num_attention_heads": 4, "head_dim": 64}
    return Qwen3Config(num_hidden_layers=num_layers, num_key_value_heads=2, **SMALL | sizes)


def gpt2(num_layers, *, attention_dropout=0.0):
    """A GPT-2, whose attention a CPU fuses only without dropout."""
    return GPT2Config(n_embd=256, n_layer=num_layers, n_head=4, attn_pdrop=attention_dropout, **SMALL)


def kept_bytes(module, run):
    """Return the size of all that autograd keeps for a backward pass, without parameters."""
    own = {one.untyped_storage().data_ptr() for one in module.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage  # holds it, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(storage.nbytes() for storage in kept.values())


def of_two_layers(config_of, llm_config, dtype):
    """Return what two layers keep: of four, less those of two."""
    sizes = []
    for num_layers in (2, 4):
        llm = AutoModelForCausalLM.from_config(config_of(num_layers), attn_implementation="sdpa")
        llm = attach(llm, llm_config, generator=torch.Generator().manual_seed(0)).to(dtype).train()
        x = torch.randn(BATCH, TOKENS, 256, dtype=dtype, requires_grad=True)
        sizes.append(kept_bytes(llm, lambda llm=llm, x=x: llm(inputs_embeds=x, use_cache=False)))
    return sizes[1] - sizes[0]


ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    ("config_of", "lora", "train", "tolerance"),
    [
        (llama, {}, "lora", 0.03),
        (llama, {"dropout": 0.0}, "lora", 0.08),  # adapters of one input keep it once
        (llama, {}, "full", 0.03),
        (qwen, {"target_modules": ALL}, "lora", 0.10),  # norms of heads are left out
        (gpt2, {"target_modules": ("c_attn",)}, "lora", 0.05),
    ],
    ids=["llama", "llama, no dropout", "llama, all of it", "qwen", "gpt2"],
)
def test_a_language_model_keeps_what_is_counted(config_of, lora, train, tolerance, dtype):
    llm_config = LLMConfig(path="x", train=train, lora=lora)
    shape, adapters = llm_shape(config_of(2)), llm_config.lora if train == "lora" else None

    counted = language_model_bytes(
        shape, adapters, tokens=BATCH * TOKENS, width=dtype.itemsize, mask_bytes=dtype.itemsize
    )

    assert counted == pytest.approx(of_two_layers(config_of, llm_config, dtype), rel=tolerance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_attention_that_is_not_fused_keeps_what_is_counted(dtype):
    llm_config = LLMConfig(path="x", lora={"target_modules": ("c_attn",)})
    fused, unfused = (
        of_two_layers(partial(gpt2, attention_dropout=dropout), llm_config, dtype) for dropout in (0.0, 0.1)
    )

    counted = BATCH * unfused_attention_bytes(llm_shape(gpt2(2)), row_tokens=TOKENS, width=dtype.itemsize)

    assert counted == pytest.approx(unfused - fused, rel=0.15)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_mapper_keeps_what_is_counted(dtype):
    config = MapperConfig(hidden_dim=128, num_layers=6, num_heads=4, prefix_length=8, content_length=8)
    mapper = build_connector(config, clap_dim=32, llm_dim=64).to(dtype).train()
    clap_BC = torch.randn(BATCH, 32, dtype=dtype)

    counted = BATCH * mapper_bytes(config, width=dtype.itemsize)

    assert counted == pytest.approx(kept_bytes(mapper, lambda: mapper(clap_BC)), rel=0.05)


def test_an_adapter_of_an_unknown_module_keeps_nothing():
    shape, lora = KNOWN_SHAPES["gpt2"], LoRAConfig(target_modules=("c_attn",))
    with_one = language_model_bytes(shape, lora, tokens=1, width=2)
    more = LoRAConfig(target_modules=("c_attn", "nowhere"))

    assert language_model_bytes(shape, more, tokens=1, width=2) == with_one
    assert (
        with_one - language_model_bytes(shape, LoRAConfig(target_modules=("nowhere",)), tokens=1, width=2)
        == 12 * 3 * 768
    )


def test_logits_are_counted_with_their_loss():
    assert logits_bytes(KNOWN_SHAPES["gpt2"], tokens=10, width=2) == 10 * 50257 * 10
