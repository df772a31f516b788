"""Ogg and FLAC: link by link, stream by stream, to the end."""

import numpy as np
import pytest

from mats_ray.errors import AudioDecodeError
from tests.sounds import SNDFILE_KINDS, decoded, ffmpeg_bytes, sndfile_bytes

RATE = 16_000


def tone(frequency, seconds=1.0, rate=RATE):
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def made(kind, frequency=400, rate=RATE, channels=1, seconds=1.0):
    if kind == "oga":
        return ffmpeg_bytes(tone(frequency, seconds, rate), "oga", rate=rate, channels=channels)
    samples = np.stack([tone(frequency, seconds, rate)] * channels, axis=1)
    return sndfile_bytes(samples, rate, **SNDFILE_KINDS[kind])


def tones(clip):
    rate = clip.sample_rate
    seconds = np.split(clip.samples[: len(clip.samples) // rate * rate], len(clip.samples) // rate)
    return [int(np.argmax(np.abs(np.fft.rfft(second * np.hanning(rate))))) for second in seconds]


def refusal(data):
    with pytest.raises(AudioDecodeError) as caught:
        decoded(data)
    return caught.value


@pytest.mark.parametrize("kind", ["ogg", "opus", "oga", "flac"])
@pytest.mark.parametrize("how", [{}, {"rate": 24_000}, {"channels": 2}], ids=["same", "rate", "channels"])
def test_joined_files_are_read_to_the_last(kind, how):
    clip = decoded(made(kind, 400) + made(kind, 800, **how) + made(kind, 1200))

    assert (clip.sample_rate, round(clip.seconds, 2)) == (RATE, 3.0)
    assert tones(clip) == [400, 800, 1200]


def test_flac_in_ogg_is_exact():
    np.testing.assert_allclose(decoded(made("oga")).samples, tone(400), atol=2**-14)


@pytest.mark.parametrize("counted", [0, 1, 16_000])
def test_a_flac_that_counts_too_few_samples_is_read_on(counted):
    flac = bytearray(made("flac", seconds=3.0))
    described = int.from_bytes(flac[18:26], "big")
    flac[18:26] = (described & ~(2**36 - 1) | counted).to_bytes(8, "big")

    assert decoded(bytes(flac)).seconds == 3.0


@pytest.mark.parametrize("kind", ["ogg", "opus", "oga"])
def test_a_page_that_is_missing_is_damage(kind):
    data = made(kind, seconds=30.0) if kind != "oga" else made(kind, seconds=90.0)
    pages = data.split(b"OggS")
    assert len(pages) > 6

    error = refusal(b"OggS".join([*pages[:4], *pages[5:]]))

    assert error.code == "damaged"
    assert "pages are missing" in str(error)


@pytest.mark.parametrize("kind", ["ogg", "opus", "oga", "flac"])
@pytest.mark.parametrize("kept", [0.9, 0.6, 0.05])
def test_a_cut_file_is_no_shorter_clip(kind, kept):
    data = made(kind, seconds=3.0)

    assert refusal(data[: int(len(data) * kept)]).code == "truncated"
    assert refusal(made(kind) + data[: int(len(data) * kept)]).code == "truncated"
