"""The toy CLAP: trained in a moment, saved in transformers' format, loaded like any other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import ClapModel

from mats_ray.config.toy import ToyConfig
from mats_ray.models.clap import load_clap
from mats_ray.models.clap.frontend import LogMel
from mats_ray.toy.clap import (
    LOGIT_SCALE,
    NUM_MELS,
    OTHER_CAPTIONS,
    SPEC_SIZE,
    augment,
    described_scene,
    feature_extractor,
    train_clap,
)
from mats_ray.toy.grammar import captions
from mats_ray.toy.scenes import Scene, SceneClip, render_clip
from mats_ray.toy.tokenizer import train_tokenizer

CLIPS = [
    SceneClip(Scene("alone", (sound,)), seed)
    for seed in range(3)
    for sound in ("dog", "rain", "siren", "bell")
]
TEXTS = [caption for clip in CLIPS for caption in captions(clip.scene, clip.rng(1), 4)]


def trained(directory, *, steps, seed=0):
    toy = ToyConfig(clap_takes=3, clap_batch_size=12)
    clips = [replace(clip, seed=clip.seed + 3 * step) for step in range(steps) for clip in CLIPS]
    train_clap(directory, clips, train_tokenizer(TEXTS), toy, dim=16, seed=seed)
    return load_clap(directory)


def waveform(clip):
    return render_clip(clip, 4, 16_000)


def test_it_loads_like_any_clap(clap, world):
    assert (clap.dim, clap.sample_rate, clap.window_seconds) == (16, 16_000, 4)
    assert clap.identity.family == "transformers"

    text_NC = clap.encode_text(["a dog barks", "rain"])
    audio_NC = clap.encode_audio([waveform(clip) for clip in CLIPS[:3]], 16_000)

    assert text_NC.shape == (2, 16)
    assert audio_NC.shape == (3, 16)
    for rows_NC in (text_NC, audio_NC):
        torch.testing.assert_close(rows_NC.norm(dim=1), torch.ones(len(rows_NC)))


def test_it_learns_which_text_belongs_to_which_sound(tmp_path):
    def share_of_right_texts(clap):
        audio_NC = clap.encode_audio([waveform(clip) for clip in CLIPS], 16_000)
        text_KC = clap.encode_text(["a dog barks", "rain falls", "a siren wails", "a bell rings"])
        return float(((audio_NC @ text_KC.T).argmax(dim=1) == torch.arange(12) % 4).float().mean())

    assert share_of_right_texts(trained(tmp_path, steps=90)) > 0.7


def test_the_same_seed_gives_the_same_weights_another_seed_others(tmp_path):
    one, two, other = (trained(tmp_path / str(i), steps=2, seed=seed) for i, seed in enumerate((0, 0, 1)))

    assert one.identity == two.identity
    assert one.identity != other.identity


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 22_050, 48_000])
@pytest.mark.parametrize("clip_seconds", [1, 4, 10])
def test_a_clip_fills_the_columns_of_the_audio_tower(sample_rate, clip_seconds):
    toy = ToyConfig(sample_rate=sample_rate, clip_seconds=clip_seconds)
    columns = SPEC_SIZE * SPEC_SIZE // NUM_MELS
    front_end = LogMel.from_settings(feature_extractor(toy).to_dict())

    mels_NFM = front_end(torch.zeros(1, sample_rate * clip_seconds))

    assert columns - 4 <= mels_NFM.shape[1] <= columns
    assert mels_NFM.shape[2] == NUM_MELS


def test_augmenting_changes_a_copy_by_level_and_masks():
    mels_BFM = torch.randn(3, 126, NUM_MELS, generator=torch.Generator().manual_seed(0))
    before = mels_BFM.clone()

    one, two = (augment(mels_BFM, np.random.default_rng(1)) for _ in range(2))

    assert torch.equal(mels_BFM, before)
    assert torch.equal(one, two)
    for mel_FM, changed_FM in zip(mels_BFM, one, strict=True):
        differences, counts = (changed_FM - mel_FM).round(decimals=4).unique(return_counts=True)
        assert counts.max() > 0.75 * mel_FM.numel()  # one gain for all that is not masked
        assert 0 < abs(differences[counts.argmax()]) <= 6
        assert len(differences) > 2 * NUM_MELS


def test_captions_are_mostly_of_the_clips_scene_three_in_ten_of_another():
    clips = [SceneClip(Scene("then", ("dog", "rain")), seed) for seed in range(500)]

    share = np.mean([described_scene(clip) != clip.scene for clip in clips])

    assert share == pytest.approx(OTHER_CAPTIONS, abs=0.06)
    assert described_scene(clips[0]) == described_scene(clips[0])


def test_the_temperature_is_fixed(world):
    model = ClapModel.from_pretrained(world.clap_ref)

    assert model.logit_scale_t.exp().item() == pytest.approx(LOGIT_SCALE, rel=1e-4)
