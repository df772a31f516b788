"""Counts from shapes against counts of real modules, and against figures worked out elsewhere."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mats_ray.config.model import LLMConfig, LoRAConfig, MapperConfig
from mats_ray.models.build import build_connector
from mats_ray.models.llm import attach
from mats_ray.train.flops import KNOWN_SHAPES, TrainingFlops, llm_shape, num_mapper_parameters

LLAMA = LlamaConfig(
    vocab_size=50,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    tie_word_embeddings=False,
)
QWEN3 = Qwen3Config(
    vocab_size=50,
    hidden_size=24,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=10,  # not 24 / 4
    tie_word_embeddings=True,
)
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
GPT2 = GPT2Config(vocab_size=50, n_embd=32, n_layer=3, n_head=4, n_positions=64)


def matrices(model):
    return sum(p.numel() for p in model.parameters() if p.dim() == 2)


@pytest.mark.parametrize(
    ("config", "kind", "besides"),
    [
        (LLAMA, LlamaForCausalLM, 0),
        (QWEN3, Qwen3ForCausalLM, 0),
        (GPT2, GPT2LMHeadModel, 64 * 32),  # learned positions
    ],
    ids=["llama", "qwen3", "gpt2"],
)
def test_the_weights_of_a_shape_are_those_of_the_model(config, kind, besides):
    assert llm_shape(config).num_weights == matrices(kind(config)) - besides


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ALL_LINEAR])
@pytest.mark.parametrize(
    ("config", "kind"), [(LLAMA, LlamaForCausalLM), (QWEN3, Qwen3ForCausalLM)], ids=["llama", "qwen3"]
)
def test_the_weights_of_an_adapter(config, kind, targets):
    lora = LoRAConfig(rank=2, target_modules=targets)
    adapted = attach(kind(config), LLMConfig(lora=lora), generator=torch.Generator())

    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)

    assert llm_shape(config).lora_weights(lora) == trained


def test_all_linear_layers_are_those_that_peft_means():
    adapted = get_peft_model(Qwen3ForCausalLM(QWEN3), LoraConfig(r=2, target_modules="all-linear"))

    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)

    assert llm_shape(QWEN3).lora_weights(LoRAConfig(rank=2, target_modules=ALL_LINEAR)) == trained


def test_an_adapter_on_all_linear_layers_of_an_8b_model_by_hand():
    """Qwen3-8B: 36 layers, width 4096, 32 heads and 8 KV heads of 128, MLP 12,288; inputs plus outputs."""
    query = output = 4096 + 32 * 128
    key = value = 4096 + 8 * 128
    gate = up = down = 4096 + 12_288
    per_rank = 36 * (query + key + value + output + gate + up + down)

    found = KNOWN_SHAPES["qwen3-8b"].lora_weights(LoRAConfig(rank=8, target_modules=ALL_LINEAR))

    assert found == 8 * per_rank == 21_823_488


def test_the_known_shapes_have_the_sizes_of_their_names():
    millions = {name: shape.num_weights / 1e6 for name, shape in KNOWN_SHAPES.items()}

    assert millions["llama-7b"] == millions["vicuna-7b-v1.5"] == pytest.approx(6738, rel=1e-3)
    assert millions["qwen3-8b"] == pytest.approx(8190, rel=1e-3)  # 6.95 B of them outside the embeddings
    assert KNOWN_SHAPES["qwen3-8b"].layer_weights == pytest.approx(6.95e9, rel=1e-3)
    assert millions["gpt2"] == pytest.approx(124, rel=0.01)
    assert millions["smollm2-135m"] == pytest.approx(134.5, rel=0.01)


@pytest.mark.parametrize("kind", ["transformer", "mlp"])
def test_the_parameters_of_a_mapper(kind):
    mapper = MapperConfig(
        type=kind, hidden_dim=64, num_layers=2, num_heads=2, prefix_length=6, content_length=5
    )
    connector = build_connector(mapper, clap_dim=32, llm_dim=48)

    count = num_mapper_parameters(mapper, clap_dim=32, llm_dim=48)

    assert count == pytest.approx(sum(p.numel() for p in connector.parameters()), rel=0.03)
    assert num_mapper_parameters(MapperConfig(), clap_dim=1024, llm_dim=4096) == pytest.approx(
        113.4e6, rel=1e-3
    )


@pytest.mark.parametrize(("tokens", "teraflops"), [(60, 1.62), (100, 2.68), (140, 3.75), (190, 5.08)])
def test_a_sample_of_mats_llama_costs_what_was_worked_out_by_hand(tokens, teraflops):
    flops = TrainingFlops(KNOWN_SHAPES["llama-7b"], MapperConfig(), 1024, LoRAConfig())

    found = flops.count(samples=1, text_tokens=tokens - 40, answer_tokens=tokens)  # with all logits, as there

    assert found / 1e12 == pytest.approx(teraflops, rel=0.03)


def test_training_all_of_it_costs_half_as_much_again():
    shape, mapper = KNOWN_SHAPES["gpt2"], MapperConfig(type="mlp", hidden_dim=8, prefix_length=2)
    costs = [
        TrainingFlops(shape, mapper, 8, lora).count(samples=1, text_tokens=8, answer_tokens=4)
        for lora in (None, LoRAConfig(rank=1))
    ]

    assert costs[0] / costs[1] == pytest.approx(1.5, rel=0.02)
