"""A LAION file is a ClapModel with LAION's front end."""

import numpy as np
import pytest
import torch

from mats_ray.models.clap import load_clap
from mats_ray.models.clap.laion import front_end
from mats_ray.models.clap.transformers_clap import MAX_TEXT_TOKENS
from tests.unit.models.clap.small import noise, save_tokenizer


@pytest.fixture(scope="module")
def clap(laion_file, tmp_path_factory):
    tokenizer = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(tokenizer)
    return load_clap(laion_file, tokenizer=str(tokenizer))


def test_sizes_are_read_off_the_tensors(clap):
    config = clap.towers.clap.config

    assert list(config.audio_config.depths) == [1, 2]
    assert list(config.audio_config.num_attention_heads) == [1, 2]
    assert config.text_config.num_hidden_layers == 2
    assert config.text_config.vocab_size == 40
    assert config.text_config.layer_norm_eps == 1e-5
    assert (clap.dim, clap.sample_rate, clap.window_seconds) == (24, 48_000, 10)


def test_texts_are_cut_at_77_tokens_with_their_end_kept(clap):
    (ids,) = clap.tokens([" ".join(["dog"] * 200)])

    assert len(ids) == MAX_TEXT_TOKENS
    assert (ids[0], ids[-1]) == (0, 2)


def test_texts_are_embedded_with_a_given_tokenizer(clap):
    assert clap.encode_text(["a dog barks", "rain"]).shape == (2, 24)


def test_quantisation_is_on_by_default(laion_file, clap):
    tone = [0.01 * np.sin(np.arange(48_000) / 17).astype(np.float32)]
    exact = load_clap(laion_file, quantize_int16=False)

    assert clap.clips.quantize_int16
    assert not torch.equal(clap.encode_audio(tone, 48_000), exact.encode_audio(tone, 48_000))


def test_a_fusion_file_is_recognised(fused_file):
    clap = load_clap(fused_file)

    assert clap.clips.fusion
    assert clap.encode_audio(noise(1000), 48_000).shape == (1, 24)


def test_the_mel_bank_starts_at_50_hertz():
    assert front_end(fusion=False)["frequency_min"] == 50
    assert front_end(fusion=True)["truncation"] == "fusion"
