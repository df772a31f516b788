"""The synthesiser: repeatable, bounded, varied within a class, distinct between classes."""

import numpy as np
import pytest

from mats_ray.toy.sounds import SOUNDS

SAMPLE_RATE = 16_000
NUM_SAMPLES = 2 * SAMPLE_RATE


def render(name, seed, num_samples=NUM_SAMPLES, sample_rate=SAMPLE_RATE):
    return SOUNDS[name].render(np.random.default_rng(seed), num_samples, sample_rate)


def band_profile(samples):
    """Mean and spread over time of 32 log band energies, equally wide on a mel scale."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 512)[::256] * np.hanning(512)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    mel = 2595 * np.log10(1 + np.fft.rfftfreq(512, 1 / SAMPLE_RATE) / 700)
    centres = np.linspace(0, mel[-1], 34)[1:-1]
    bank = np.clip(1 - np.abs(mel[:, None] - centres) / (centres[1] - centres[0]), 0, None)
    log_bands = np.log(power @ bank + 1e-3)
    return np.concatenate([log_bands.mean(axis=0), log_bands.std(axis=0)])


def test_there_are_twenty_sounds():
    assert len(SOUNDS) == 20
    assert list(SOUNDS) == sorted(SOUNDS)
    assert all(name == sound.name for name, sound in SOUNDS.items())


@pytest.mark.parametrize("name", SOUNDS)
def test_same_seed_same_samples_another_seed_other_samples(name):
    first, again, other = render(name, 1), render(name, 1), render(name, 2)

    np.testing.assert_array_equal(first, again)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.5


@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize("num_samples", [1, 4_001, NUM_SAMPLES])
def test_every_take_is_finite_audible_and_bounded(name, num_samples):
    for seed in range(5):
        samples = render(name, seed, num_samples)

        assert samples.dtype == np.float32
        assert samples.shape == (num_samples,)
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() < 0.91
        if num_samples == NUM_SAMPLES:
            assert np.sqrt(np.mean(samples**2)) > 0.01


@pytest.mark.parametrize("sample_rate", [8_000, 44_100, 48_000])
def test_other_sample_rates_are_served(sample_rate):
    for name in SOUNDS:
        samples = render(name, 0, sample_rate, sample_rate)

        assert np.isfinite(samples).all()
        assert np.abs(samples).max() > 0.4


def test_sounds_have_different_spectra():
    """The nearest mean of other renderings, in a small log-mel spectrogram, names at least 95 % of them."""
    profiles = np.array([[band_profile(render(name, seed)) for seed in range(10)] for name in SOUNDS])
    scale = profiles.std(axis=(0, 1))
    means, queries = profiles[:, :5].mean(axis=1) / scale, profiles[:, 5:] / scale

    nearest = np.linalg.norm(queries[:, :, None] - means, axis=-1).argmin(axis=-1)

    assert np.mean(nearest == np.arange(len(SOUNDS))[:, None]) >= 0.95
