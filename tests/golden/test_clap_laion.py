"""LAION's published files through ``load_clap`` give laion-clap's numbers."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from mats_ray.models.clap import LogMel, load_clap, repeat_pad
from mats_ray.models.clap.frontend import quantize_int16
from mats_ray.models.clap.laion import front_end
from tests.golden.clap_checkpoints import assert_near, grow, parse, save_laion, state_dict, wave
from tests.golden.recipe import GOLDEN, golden_files

TOLERANCE = 2e-6


@pytest.fixture(scope="module", params=golden_files("laion_audio"))
def audio(request):
    return np.load(request.param)


@pytest.fixture(scope="module")
def text(audio):
    return np.load(GOLDEN / f"laion_text_{salt_of(audio)}.npz")


def salt_of(golden):
    return json.loads(str(golden["meta"]))["salt"]


@pytest.fixture(scope="module")
def load(audio, tmp_path_factory):
    def load(audio_keys, text_keys):
        keys = parse(audio[audio_keys]) | text_keys
        log_mel = LogMel.from_settings(front_end(fusion=False))
        file = tmp_path_factory.mktemp("laion") / "checkpoint.pt"
        save_laion(file, state_dict(keys, salt_of(audio), log_mel=log_mel))
        clap = load_clap(file)
        file.unlink()
        return clap

    return load


@pytest.fixture(scope="module")
def tiny(load, text):
    """HTSAT-tiny with a text tower of roberta-base size."""
    small = parse(text["native_keys_small"])
    return load(
        "native_keys_tiny", grow(small, r"text_branch\.encoder\.layer", num_layers=12, resize=roberta_size)
    )


def roberta_size(name, shape):
    if name.endswith("word_embeddings.weight"):
        return (50265, 768)
    if ".intermediate." in name or (".output.dense.weight" in name and ".attention." not in name):
        return tuple(3072 if size == 512 else size for size in shape)
    return shape


@pytest.fixture(scope="module")
def base(load, text):
    """HTSAT-base with a text tower of two layers."""
    return load("native_keys_base", parse(text["native_keys_small"]))


@pytest.fixture(scope="module")
def fused(load, text):
    """HTSAT-tiny with fusion, and a text tower of two layers."""
    return load("native_keys_fused", parse(text["native_keys_small"]))


def long_clip(audio):
    return np.tile(wave(audio["clip_b"]), 4)[:600_000]


def test_a_file_is_recognised_by_its_content(tiny, base, fused):
    for clap, width in ((tiny, 96), (base, 128), (fused, 96)):
        audio_config = clap.towers.clap.config.audio_config
        assert audio_config.patch_embeds_hidden_size == width
        assert (clap.identity.family, clap.dim, clap.sample_rate) == ("laion", 512, 48_000)
        assert clap.window_seconds == 10
    assert fused.clips.fusion
    assert not tiny.clips.fusion


def test_text_of_two_layers(base, text):
    ids, mask = torch.tensor(text["ids_small"]).long(), torch.tensor(text["mask"]).long()

    assert_near(base.encode_tokens(ids, mask), text["emb_small"], TOLERANCE, "text, 2 layers")


def test_text_of_roberta_size(tiny, text):
    ids, mask = torch.tensor(text["ids_full"]).long(), torch.tensor(text["mask"]).long()

    assert_near(tiny.encode_tokens(ids, mask), text["emb_full"], TOLERANCE, "text, 12 layers")


def test_text_does_not_need_the_reference_padding_to_77(tiny, text):
    mask = torch.tensor(text["mask"]).long()
    for row, length in enumerate(mask.sum(dim=1).tolist()):
        ids = torch.tensor(text["ids_full"][row : row + 1, :length]).long()
        alone = tiny.encode_tokens(ids, mask[row : row + 1, :length])
        assert_near(alone[0], text["emb_full"][row], TOLERANCE, f"text {row}, unpadded")


def test_waveform_and_log_mel(tiny, audio):
    window = repeat_pad(quantize_int16(wave(audio["clip_a"])), 480_000)
    mel = tiny.log_mel(torch.from_numpy(window)[None])[0]

    assert_near(window[::4801], audio["wave_a_sub"], 0, "fitted waveform")
    assert len(mel) == audio["logmel_frames"]
    assert_near(mel[::50], audio["logmel_a_every50"], 1e-4, "log-mel in dB")


def test_audio_latent(tiny, audio):
    window = repeat_pad(quantize_int16(wave(audio["clip_a"])), 480_000)
    mel = tiny.log_mel(torch.from_numpy(window)[None, :])
    with torch.inference_mode():
        latent = tiny.towers.clap.audio_model(input_features=mel[:, None]).pooler_output[0]

    assert_near(latent, audio["latent_tiny_a"], 5e-6, "audio latent")


@pytest.mark.parametrize("size", ["tiny", "base"])
def test_audio(size, audio, request):
    clap = request.getfixturevalue(size)
    long = long_clip(audio)
    offset = int(audio["long_random_offset_np_seed3"])
    clips = {
        "a": wave(audio["clip_a"]),
        "b": wave(audio["clip_b"]),
        "zeros": np.zeros(48_000, np.float32),
        "long_random": long[offset : offset + 480_000],
    }

    for name, embedding in zip(clips, clap.encode_audio(list(clips.values()), 48_000), strict=True):
        assert_near(embedding, audio[f"emb_{size}_{name}"], TOLERANCE, f"audio {size} {name}")
    for long_audio, name in (("first", "long_offset0"), ("center", "long_center")):
        embedding = clap.encode_audio([long], 48_000, long_audio=long_audio)[0]
        assert_near(embedding, audio[f"emb_{size}_{name}"], TOLERANCE, f"audio {size} {name}")


@pytest.mark.parametrize("size", ["tiny", "base"])
def test_audio_without_quantisation(size, audio, request, monkeypatch):
    clap = request.getfixturevalue(size)
    monkeypatch.setattr(clap, "clips", dataclasses.replace(clap.clips, quantize_int16=False))

    embedding = clap.encode_audio([wave(audio["clip_a"])], 48_000)[0]

    assert_near(embedding, audio[f"emb_{size}_a_noquant"], TOLERANCE, f"audio {size} a, not quantised")


def test_short_audio_of_a_fusion_model(fused, audio):
    embeddings = fused.encode_audio([wave(audio["clip_a"]), wave(audio["clip_b"])], 48_000)

    for name, embedding in zip("ab", embeddings, strict=True):
        assert_near(embedding, audio[f"emb_fused_{name}"], TOLERANCE, f"audio fused {name}")


def test_long_audio_of_a_fusion_model(fused, audio, monkeypatch):
    starts = audio["fused_long_chunk_starts"].tolist()
    monkeypatch.setattr("mats_ray.models.clap.tower_clap.chunk_starts", lambda *_, center: starts)

    embedding = fused.encode_audio([long_clip(audio)], 48_000, long_audio="center")[0]

    assert_near(embedding, audio["emb_fused_long"], TOLERANCE, "audio fused long")
