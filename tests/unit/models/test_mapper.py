"""Mapper and connector: shapes, what they do with norms, and how they start."""

import pytest
import torch
from torch import nn

from mats_ray.models.mapper import Connector, MLPMapper, TransformerMapper, init_connector


def transformer():
    return TransformerMapper(
        clap_dim=6, hidden_dim=8, prefix_length=5, content_length=3, num_layers=2, num_heads=2
    )


def mlp():
    return MLPMapper(clap_dim=6, hidden_dim=8, prefix_length=5)


def connector(make=transformer, seed=0, output_std=0.02):
    made = Connector(make(), hidden_dim=8, llm_dim=12)
    init_connector(made, generator=torch.Generator().manual_seed(seed), output_std=output_std)
    return made


def clap(num_rows=4):
    return torch.randn(num_rows, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("make", [transformer, mlp])
def test_one_embedding_becomes_a_prefix(make):
    assert connector(make).audio_mapper(clap()).shape == (4, 5, 8)
    assert connector(make)(clap()).shape == (4, 5, 12)


@pytest.mark.parametrize("make", [transformer, mlp])
def test_the_length_of_an_embedding_does_not_matter(make):
    made = connector(make)

    torch.testing.assert_close(made(clap()), made(30 * clap()))


@pytest.mark.parametrize("make", [transformer, mlp])
def test_a_row_does_not_depend_on_its_batch(make):
    made = connector(make)

    torch.testing.assert_close(made(clap())[2:3], made(clap()[2:3]))


def test_the_mapper_is_pre_norm_attention_as_torch_has_it():
    """Upstream's block written with torch's own attention: the biases torch insists on are zero."""
    mapper = connector().audio_mapper
    x = torch.cat([mapper.linear(clap()).view(4, 3, 8), mapper.prefix_const.expand(4, -1, -1)], dim=1)
    for block in mapper.transformer.layers:
        reference = nn.MultiheadAttention(8, 2, batch_first=True)
        with torch.no_grad():
            reference.in_proj_weight.copy_(
                torch.cat([block.attn.to_queries.weight, block.attn.to_keys_values.weight])
            )
            reference.in_proj_bias.zero_()
            reference.out_proj.load_state_dict(block.attn.project.state_dict())
        normed = block.norm1(x)
        x = x + reference(normed, normed, normed)[0]
        x = x + block.mlp.fc2(block.mlp.fc1(block.norm2(x)).relu())

    torch.testing.assert_close(mapper(clap()), x[:, 3:])


def test_upstreams_biases_are_where_upstream_has_them():
    biases = {name for name, _ in transformer().transformer.layers[0].named_parameters() if "bias" in name}

    assert biases == {"norm1.bias", "norm2.bias", "attn.project.bias", "mlp.fc1.bias", "mlp.fc2.bias"}


@pytest.mark.parametrize("make", [transformer, mlp])
def test_every_parameter_is_drawn_from_the_generator(make):
    first, second, other = connector(make), connector(make), connector(make, seed=1)

    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, second.get_parameter(name)), name
        assert parameter.isfinite().all()
        if parameter.dim() == 2:
            assert not torch.equal(parameter, other.get_parameter(name)), name


def test_a_fresh_prefix_is_as_large_as_words_are():
    wide = Connector(
        TransformerMapper(
            clap_dim=32, hidden_dim=64, prefix_length=20, content_length=4, num_layers=2, num_heads=4
        ),
        hidden_dim=64,
        llm_dim=256,
    )
    init_connector(wide, generator=torch.Generator().manual_seed(0), output_std=0.02)

    std = wide(torch.randn(16, 32, generator=torch.Generator().manual_seed(0))).std().item()

    assert 0.01 < std < 0.08


def test_the_connector_runs_in_the_precision_of_its_weights():
    assert connector().bfloat16()(clap()).dtype == torch.bfloat16
