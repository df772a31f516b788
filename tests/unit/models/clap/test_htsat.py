"""HTSAT's native names and sizes."""

import pytest
import torch

from mats_ray.models.clap.htsat import htsat_config, native_name
from mats_ray.models.weights import NativeName


@pytest.mark.parametrize(
    ("ours", "native"),
    [
        ("batch_norm.running_mean", NativeName("bn0.running_mean")),
        ("norm.weight", NativeName("norm.weight")),
        ("patch_embed.norm.weight", NativeName("patch_embed.norm.weight")),
        ("layers.0.downsample.norm.bias", NativeName("layers.0.downsample.norm.bias")),
        ("layers.2.blocks.5.layernorm_after.bias", NativeName("layers.2.blocks.5.norm2.bias")),
        ("layers.0.blocks.1.attention.self.key.bias", NativeName("layers.0.blocks.1.attn.qkv.bias", third=1)),
        ("layers.0.blocks.1.attention.output.dense.bias", NativeName("layers.0.blocks.1.attn.proj.bias")),
        ("layers.0.blocks.1.output.dense.weight", NativeName("layers.0.blocks.1.mlp.fc2.weight")),
        ("layers.0.blocks.1.intermediate.dense.weight", NativeName("layers.0.blocks.1.mlp.fc1.weight")),
    ],
)
def test_names_are_mapped(ours, native):
    assert native_name(ours) == native


def test_sizes_of_tensors_that_are_missing_are_those_of_htsat_tiny():
    config = htsat_config({"p.layers.2.blocks.5.norm1.weight": torch.ones(384)}, "p.")

    assert config.patch_embeds_hidden_size == 96
    assert list(config.num_attention_heads) == [4, 8, 16]
    assert list(config.depths) == [2, 2, 6]
    assert not config.enable_fusion
