"""Waveforms are fitted, cut and made log-mel spectrograms as the references do, and never by chance."""

import numpy as np
import pytest
import torch

from mats_ray.models.clap.frontend import LogMel, cut_windows, quantize_int16, repeat_pad
from tests.unit.models.clap.small import front_end, noise


@pytest.mark.parametrize(("convolve", "atol"), [(True, 1e-3), (False, 1e-5)])
@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
def test_log_mel_equals_that_of_transformers(truncation, convolve, atol):
    extractor = front_end(truncation=truncation)
    window = noise(64_000)[0]
    expected = extractor(window, sampling_rate=16_000, return_tensors="pt")["input_features"][0, 0]

    log_mel = LogMel.from_settings(extractor.to_dict(), convolve=convolve)
    mel = log_mel(torch.from_numpy(window)[None])[0]

    assert mel.shape == (126, 32)
    torch.testing.assert_close(mel, expected.float(), atol=atol, rtol=0)


def test_the_mel_bank_may_be_laid_out_for_another_rate_than_the_audio_has():
    settings = front_end().to_dict()
    bank = LogMel.from_settings(settings | {"mel_sampling_rate": 12_000, "frequency_max": 6000}).bank_KM

    assert not torch.equal(bank, LogMel.from_settings(settings | {"frequency_max": 6000}).bank_KM)


def test_silence_is_at_the_floor():
    mel = LogMel.from_settings(front_end().to_dict())(torch.zeros(1, 4000))

    assert (mel == -100).all()


def test_both_fourier_transforms_agree():
    log_mel = LogMel.from_settings(front_end().to_dict())
    waveforms = torch.from_numpy(np.stack(noise(16_000, 16_000)))

    torch.testing.assert_close(
        log_mel._transformed(waveforms), log_mel._convolved(waveforms), atol=1e-3, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ("repeatpad", [1, 2, 3, 1, 2, 3, 0, 0]),
        ("repeat", [1, 2, 3, 1, 2, 3, 1, 2]),
        ("pad", [1, 2, 3, 0, 0, 0, 0, 0]),
    ],
)
def test_a_short_clip_is_fitted(padding, expected):
    np.testing.assert_array_equal(repeat_pad(np.array([1.0, 2.0, 3.0]), 8, padding), expected)


@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
def test_a_clip_of_the_window_length_stays_as_it_is(padding):
    clip = np.arange(8.0)

    np.testing.assert_array_equal(repeat_pad(clip, 8, padding), clip)


def test_windows_cover_a_long_clip_once():
    clip = np.arange(25)
    windows = cut_windows(clip, 10, 100, "windows")

    assert [len(window) for window in windows] == [10, 10, 5]
    np.testing.assert_array_equal(np.concatenate(windows), clip)


@pytest.mark.parametrize(("long_audio", "start"), [("first", 0), ("center", 7)])
def test_one_window_of_a_long_clip(long_audio, start):
    (window,) = cut_windows(np.arange(25), 10, 100, long_audio)

    np.testing.assert_array_equal(window, np.arange(start, start + 10))


def test_quantisation_rounds_towards_zero_and_clips():
    samples = np.array([0.99999, -0.99999, 2.0, -2.0, 1e-5], dtype=np.float32)

    quantised = quantize_int16(samples)

    assert quantised.dtype == np.float32
    np.testing.assert_array_equal(quantised * 32767, [32766, -32766, 32767, -32767, 0])
