"""Every name of a released checkpoint has its place, or is refused by name."""

import pytest
import torch

from mats_ray.errors import ModelError
from mats_ray.models.upstream.keys import mapper_config, sort_keys

T = torch.zeros(1)


@pytest.mark.parametrize(
    ("name", "part", "ours"),
    [
        ("audio_mapper.prefix_const", "connector", None),
        ("audio_mapper.transformer.layers.7.attn.to_keys_values.weight", "connector", None),
        ("audio_llama_proj.bias", "connector", None),
        (
            "llama_model.base_model.model.model.layers.3.self_attn.q_proj.lora_A.default.weight",
            "lora",
            "base_model.model.model.layers.3.self_attn.q_proj.lora_A.default.weight",
        ),
        (
            "llama_model.base_model.model.model.layers.3.self_attn.q_proj.weight",
            "llm",
            "model.layers.3.self_attn.q_proj.weight",
        ),
        (
            "llama_model.base_model.model.model.layers.3.self_attn.q_proj.base_layer.weight",
            "llm",
            "model.layers.3.self_attn.q_proj.weight",
        ),
        ("llama_model.model.embed_tokens.weight", "llm", "model.embed_tokens.weight"),
        ("llama_model.base_model.model.lm_head.weight", "llm", "lm_head.weight"),
        ("audio_encoder.base.htsat.bn0.running_var", "clap", "audio_encoder.base.htsat.bn0.running_var"),
        ("clap_text_encoder.base.wte.weight", "clap", "caption_encoder.base.wte.weight"),
    ],
)
def test_a_name_belongs_to_one_part(name, part, ours):
    parts = sort_keys({name: T}, source="F")

    assert getattr(parts, part) == {ours or name: T}
    assert not parts.unused
    assert sum(len(getattr(parts, each)) for each in ("connector", "lora", "llm", "clap")) == 1


@pytest.mark.parametrize(
    "name",
    [
        "ln_audio.weight",
        "ln_audio.bias",
        "llama_model.base_model.model.model.rotary_emb.inv_freq",
        "llama_model.model.layers.0.self_attn.rotary_emb.inv_freq",
    ],
)
def test_what_upstream_never_uses_is_left_out(name):
    assert sort_keys({name: T}, source="F").unused == [name]


def test_many_unknown_names_are_counted():
    with pytest.raises(ModelError, match=r"F holds 50 tensors that .*: x00, x01, x02, x03, x04 and 45 more$"):
        sort_keys({f"x{n:02}": T for n in range(50)}, source="F")


def test_unknown_names_are_all_named():
    with pytest.raises(
        ModelError, match=r"F holds 2 tensors that belong to no part of MATS: beats\.x, speech_Q"
    ):
        sort_keys({"speech_Q": T, "ln_audio.weight": T, "beats.x": T}, source="F")


def shapes(**sizes):
    return {name.replace("__", "."): torch.zeros(size) for name, size in sizes.items()}


TRANSFORMER = shapes(
    audio_llama_proj__weight=(64, 32),
    audio_mapper__prefix_const=(5, 32),
    audio_mapper__linear__weight=(96, 24),
    audio_mapper__transformer__layers__1__norm1__weight=(32,),
)
MLP = shapes(
    audio_llama_proj__weight=(64, 32),
    audio_mapper__model__0__weight=(80, 24),
    audio_mapper__model__2__weight=(160, 80),
)


def test_the_transformers_sizes_are_read_off_its_tensors():
    config, clap_dim = mapper_config(TRANSFORMER, source="F")

    assert clap_dim == 24
    assert config.model_dump() == {
        "type": "transformer",
        "hidden_dim": 32,
        "prefix_length": 5,
        "content_length": 3,
        "num_layers": 2,
        "num_heads": 8,
    }


def test_the_mlps_sizes_are_read_off_its_tensors():
    config, clap_dim = mapper_config(MLP, source="F")

    assert (config.type, config.hidden_dim, config.prefix_length, clap_dim) == ("mlp", 32, 5, 24)


def test_a_mapper_of_another_kind_is_refused():
    simple = shapes(audio_llama_proj__weight=(64, 32), audio_mapper__model__weight=(32, 24))

    with pytest.raises(
        ModelError, match=r"neither upstream's transformer nor its mlp: audio_mapper\.model\.weight"
    ):
        mapper_config(simple, source="F")


def test_a_file_without_projection_is_no_mats():
    with pytest.raises(ModelError, match="F holds no projection"):
        mapper_config({}, source="F")
