"""Section ``model``: defaults are the paper's, impossible numbers are refused with the arithmetic."""

import pytest

from mats_ray.config.base import override, validate
from mats_ray.config.model import LoRAConfig, MapperConfig, ModelConfig, NoiseConfig
from mats_ray.config.santa import MemoryConfig, SantaConfig
from tests.unit.config.refusals import refusal


def test_the_defaults_are_the_papers():
    mapper, lora, santa = MapperConfig(), LoRAConfig(), SantaConfig()

    assert (mapper.hidden_dim, mapper.num_layers, mapper.num_heads, mapper.prefix_length) == (1024, 8, 8, 40)
    assert lora.alpha / lora.rank == 4
    assert (santa.num_neighbours, santa.temperature, santa.mix) == (32, 0.1, 0.3)
    assert NoiseConfig().variance == MemoryConfig().noise_variance == 0.015
    assert (MemoryConfig().num_rows, MemoryConfig().num_clusters) == (5172, 100)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (MapperConfig, "num_heads=7", "hidden_dim=1024 is not a multiple of num_heads=7"),
        (MapperConfig, "type=conv", "type = 'conv' is not allowed: input should be 'transformer' or 'mlp'"),
        (MapperConfig, "prefix_length=0", "prefix_length = 0 is not allowed: input should be greater than 0"),
        (
            NoiseConfig,
            "variance=-0.1",
            "variance = -0.1 is not allowed: input should be a number that is not negative, or auto",
        ),
        (NoiseConfig, "variance=.inf", "variance = inf is not allowed: input should be a number that is not"),
        (NoiseConfig, "variance=some", "variance = 'some' is not allowed: input should be a number that is"),
        (NoiseConfig, "variance=true", "variance = True is not allowed: input should be a number that is"),
        (LoRAConfig, "dropout=1", "dropout = 1 is not allowed: input should be less than 1"),
        (LoRAConfig, "rank=1.5", "rank = 1.5 is not allowed: input should be a valid integer"),
        (LoRAConfig, "target_modules=q_proj", "target_modules = 'q_proj' is not allowed: input should be a"),
        (LoRAConfig, "target_modules=[]", "target_modules = [] is not allowed: tuple should have at least 1"),
        (
            ModelConfig,
            "llm.train=head",
            "llm.train = 'head' is not allowed: input should be 'lora' or 'full'",
        ),
        (ModelConfig, "llm.dtype=int8", "llm.dtype = 'int8' is not allowed: input should be 'float32', 'bf"),
        (
            ModelConfig,
            "llm.prompt_format=alpaca",
            "llm.prompt_format = 'alpaca' is not allowed: input should be 'auto', 'vicuna' or 'chat'",
        ),
        (ModelConfig, "clap.long_audio=random", "clap.long_audio = 'random' is not allowed: input should be"),
        (
            ModelConfig,
            "clap.dims=3",
            "unknown key clap.dims = 3; allowed here: dim, implementation, long_audio, ",
        ),
        (
            ModelConfig,
            "clap.implementation=msclap",
            "clap.implementation = 'msclap' is not allowed: input should be 'native' or 'laion_clap'",
        ),
        (
            ModelConfig,
            "clap={implementation: laion_clap, quantize_int16: false}",
            "clap: quantize_int16=False needs implementation: native; laion_clap has its own",
        ),
        (ModelConfig, "clap={implementation: laion_clap, tokenizer: x}", "clap: tokenizer='x' needs impleme"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(kind, change, message):
    assert refusal(kind, change).startswith(message)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (MapperConfig, "{type: mlp, num_heads: 7}"),
        (NoiseConfig, "{variance: 0}"),
        (NoiseConfig, "{variance: auto}"),
        (MemoryConfig, "{noise_variance: auto}"),
        (LoRAConfig, "{target_modules: [c_attn], dropout: 0}"),
        (ModelConfig, "{clap: {implementation: laion_clap}}"),
        (ModelConfig, "{clap: {tokenizer: roberta-base, quantize_int16: false}}"),
    ],
)
def test_a_value_on_the_border_is_accepted(kind, change):
    validate(kind, override(f"x={change}")["x"], where="")


def test_a_variance_is_read_as_it_is_written():
    read = [
        validate(NoiseConfig, override(f"variance={one}"), where="").variance for one in ("1e-3", "auto", 0)
    ]

    assert read == [0.001, "auto", 0.0]
