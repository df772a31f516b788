"""Counts from shapes against counts of real modules, and against figures worked out elsewhere."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

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
GPT2 = GPT2Config(vocab_size=50, n_embd=32, n_layer=3, n_head=4, n_positions=64)


def matrices(model):
    return sum(p.numel() for p in model.parameters() if p.dim() == 2)


@pytest.mark.parametrize(
    ("config", "kind", "besides"),
    [(LLAMA, LlamaForCausalLM, 0), (GPT2, GPT2LMHeadModel, 64 * 32)],  # GPT-2: learned positions
    ids=["llama", "gpt2"],
)
def test_the_weights_of_a_shape_are_those_of_the_model(config, kind, besides):
    assert llm_shape(config).num_weights == matrices(kind(config)) - besides


@pytest.mark.parametrize(
    "targets",
    [("q_proj", "v_proj"), ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")],
)
def test_the_weights_of_an_adapter(targets):
    lora = LoRAConfig(rank=2, target_modules=targets)
    adapted = attach(LlamaForCausalLM(LLAMA), LLMConfig(lora=lora), generator=torch.Generator())

    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)

    assert llm_shape(LLAMA).lora_weights(lora) == trained


def test_the_known_shapes_have_the_sizes_of_their_names():
    millions = {name: shape.num_weights / 1e6 for name, shape in KNOWN_SHAPES.items()}

    assert millions["llama-7b"] == millions["vicuna-7b-v1.5"] == pytest.approx(6738, rel=1e-3)
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
