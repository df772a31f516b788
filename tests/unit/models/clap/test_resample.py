"""Clips of any rate reach the model's rate, in the memory a clip of that length needs."""

import tracemalloc

import numpy as np
import pytest
import soxr

from mats_ray.models.clap.resample import resample


def sine(rate, seconds=0.5, hertz=440.0):
    return np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize("method", ["soxr", "sinc"])
@pytest.mark.parametrize("rate", [8_000, 22_050, 44_099, 96_000])
def test_a_tone_stays_the_same_tone(rate, method):
    out = resample(sine(rate), rate, 44_100, method)

    assert out.dtype == np.float32
    assert abs(len(out) - 22_050) <= 1
    middle = slice(2_000, 20_000)
    np.testing.assert_allclose(out[middle], sine(44_100)[: len(out)][middle], atol=2e-2)


def test_the_same_rate_changes_nothing():
    clip = sine(48_000)

    assert resample(clip, 48_000, 48_000, "sinc") is clip


def test_soxr_is_used_at_high_quality():
    clip = sine(16_000)

    np.testing.assert_array_equal(
        resample(clip, 16_000, 48_000), soxr.resample(clip, 16_000, 48_000, quality="HQ")
    )


def test_sinc_taps_reach_one_sample_beyond_short_clips():
    assert resample(np.ones(1, np.float32), 48_000, 44_100, "sinc").shape == (1,)
    assert resample(np.ones(3, np.float32), 8_000, 44_100, "sinc").shape == (17,)


def test_an_odd_rate_needs_no_huge_kernel():
    clip = sine(44_099, seconds=2)
    tracemalloc.start()
    resample(clip, 44_099, 44_100, "sinc")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 200e6
