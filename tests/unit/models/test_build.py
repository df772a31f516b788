"""A configuration becomes a model; every fresh weight follows from the seed."""

import json

import pytest
import torch

from mats_ray.config.model import CLAPConfig, LLMConfig, LoRAConfig, MapperConfig, ModelConfig
from mats_ray.errors import ModelError
from mats_ray.models.build import (
    build_clap,
    build_connector,
    build_mats,
    clap_window_seconds,
)
from mats_ray.models.llm import embedding_table
from mats_ray.models.mapper import MLPMapper, TransformerMapper
from tests.pe_audio import save_pe_audio
from tests.unit.models.clap.small import front_end, laion_state, save_directory, save_laion, save_tokenizer
from tests.world import tiny_llm


def trained(model):
    return {name: part.detach() for name, part in model.named_parameters() if part.requires_grad}


@pytest.fixture(scope="module")
def llm_path(tmp_path_factory):
    return str(tiny_llm(tmp_path_factory.mktemp("llm")))


def config(**llm):
    return ModelConfig(
        clap=CLAPConfig(dim=6),
        mapper=MapperConfig(hidden_dim=8, num_layers=1, num_heads=2, prefix_length=3, content_length=2),
        llm=LLMConfig(**{"lora": LoRAConfig(rank=2)} | llm),
    )


def test_every_key_of_clap_reaches_its_loader(tmp_path):
    file = str(save_laion(tmp_path / "best.pt", laion_state()))
    save_tokenizer(tmp_path / "tokenizer")

    plain = build_clap(CLAPConfig(ref=file))
    overridden = build_clap(CLAPConfig(ref=file, tokenizer=str(tmp_path / "tokenizer"), quantize_int16=False))

    assert (plain.clips.quantize_int16, overridden.clips.quantize_int16) == (True, False)
    assert overridden.encode_text(["a dog barks"]).shape == (1, 24)
    with pytest.raises(ModelError, match="roberta-base"):
        plain.encode_text(["a dog barks"])


def test_claps_window_is_known_from_its_settings_alone(tmp_path):
    save_directory(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert clap_window_seconds(CLAPConfig(ref=str(tmp_path))) == 4

    (tmp_path / "preprocessor_config.json").unlink()
    settings = {"feature_extractor": front_end(max_length_s=3).to_dict()}
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    assert clap_window_seconds(CLAPConfig(ref=str(tmp_path))) == 3

    (tmp_path / "processor_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"processor_config\.json is not JSON"):
        clap_window_seconds(CLAPConfig(ref=str(tmp_path)))


def test_the_window_of_a_waveform_family_is_known_without_its_weights(tmp_path):
    folder = save_pe_audio(tmp_path / "pe_audio")
    seconds = build_clap(CLAPConfig(ref=str(folder))).window_seconds
    (folder / "model.safetensors").unlink()

    assert clap_window_seconds(CLAPConfig(ref=str(folder))) == seconds == 10


def test_laions_package_is_chosen_by_configuration_and_missed_in_one_line(tmp_path):
    file = str(save_laion(tmp_path / "best.pt", laion_state(width=96)))

    with pytest.raises(ModelError, match=r"implementation: laion_clap needs .*mats-ray\[laion\].*: native"):
        build_clap(CLAPConfig(ref=file, implementation="laion_clap"))


def test_the_mapper_is_the_configured_one():
    sizes = {"hidden_dim": 8, "prefix_length": 3}

    transformer = build_connector(MapperConfig(**sizes, num_heads=2), clap_dim=6, llm_dim=10)
    mlp = build_connector(MapperConfig(**sizes, type="mlp"), clap_dim=6, llm_dim=10)

    assert isinstance(transformer.audio_mapper, TransformerMapper)
    assert isinstance(mlp.audio_mapper, MLPMapper)
    assert transformer.audio_llama_proj.weight.shape == mlp.audio_llama_proj.weight.shape == (10, 8)


def test_the_papers_mapper_has_113_million_parameters():
    with torch.device("meta"):
        connector = build_connector(MapperConfig(), clap_dim=1024, llm_dim=4096)

    mapper = sum(parameter.numel() for parameter in connector.audio_mapper.parameters())
    assert round(mapper / 1e6) == 109
    assert round(sum(parameter.numel() for parameter in connector.parameters()) / 1e6) == 113


def test_one_seed_builds_one_model(llm_path):
    first, second, other = (
        trained(build_mats(config(), llm_path=llm_path, seed=seed)[0]) for seed in (1, 1, 2)
    )

    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for part in ("audio_mapper.linear.weight", "audio_llama_proj.weight", "lora_A.default.weight"):
        name = next(name for name in first if name.endswith(part))
        assert not torch.equal(first[name], other[name])


def test_only_connector_and_lora_are_trained(llm_path):
    model, _ = build_mats(config(), llm_path=llm_path, seed=0)

    names = list(trained(model))

    assert all(name.startswith("connector.") or ".lora_" in name for name in names)
    assert {name for name, _ in model.connector.named_parameters(prefix="connector")} <= set(names)
    assert sum(".lora_" in name for name in names) == 2 * 2 * 2  # layers, targets, A and B


def test_a_small_model_can_be_trained_whole(llm_path):
    model, _ = build_mats(config(train="full"), llm_path=llm_path, seed=0)

    assert trained(model).keys() == dict(model.named_parameters()).keys()


def test_a_fresh_prefix_is_as_large_as_the_models_words(llm_path):
    model, _ = build_mats(config(), llm_path=llm_path, seed=0)

    prefix = model.connector(torch.randn(16, 6, generator=torch.Generator().manual_seed(0)))

    ratio = prefix.std() / embedding_table(model.llm).std()
    assert 0.3 < ratio.item() < 3


def test_the_prompt_starts_with_the_tokenizers_bos(llm_path):
    model, prompts = build_mats(config(), llm_path=llm_path, seed=0)

    assert model.before_F.tolist() == prompts.before()
    assert model.eos_id == prompts.eos_id


def test_lora_on_modules_that_are_not_there_is_refused(llm_path):
    with pytest.raises(ModelError, match=r"LoRA on c_attn cannot be loaded: Target modules"):
        build_mats(config(lora=LoRAConfig(target_modules=("c_attn",))), llm_path=llm_path, seed=0)
