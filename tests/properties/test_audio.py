"""Whatever the sample rate, the channels, the width and the length: what was written is what is decoded."""

import io

import numpy as np
import pytest
import soundfile
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mats_ray.data.audio import Limits, decode_audio, open_audio
from mats_ray.errors import AudioDecodeError
from tests.sounds import ffmpeg_bytes

# half a step of the width, and one step that negative full scale is larger by
STEPS = {
    ("WAV", "PCM_U8"): 2**-7,
    ("WAV", "PCM_16"): 2**-15,
    ("WAV", "PCM_24"): 2**-23,
    ("WAV", "PCM_32"): 2**-23,  # float32 holds no more
    ("WAV", "FLOAT"): 2**-23,
    ("WAV", "DOUBLE"): 2**-23,
    ("FLAC", "PCM_S8"): 2**-7,
    ("FLAC", "PCM_16"): 2**-15,
    ("FLAC", "PCM_24"): 2**-23,
    ("AIFF", "PCM_16"): 2**-15,
    ("AU", "PCM_24"): 2**-23,
    ("CAF", "PCM_16"): 2**-15,
    ("W64", "FLOAT"): 2**-23,
    ("RF64", "PCM_16"): 2**-15,
}
MANY = settings(max_examples=60, deadline=None)


def drawn(seed, length, channels):
    return np.random.default_rng(seed).uniform(-0.99, 0.99, (length, channels)).astype(np.float32)


def written(samples_TH, rate, container, subtype):
    assume(container != "FLAC" or rate < 2**16 or rate % 10 == 0)  # its header holds no other
    buffer = io.BytesIO()
    soundfile.write(buffer, samples_TH, rate, format=container, subtype=subtype)
    return buffer.getvalue()


sounds = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(sorted(STEPS)),
        "rate": st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
        | st.integers(1_000, 384_000),
        "channels": st.integers(1, 8),
        "length": st.integers(1, 4) | st.integers(1, 9_000),
        "seed": st.integers(0, 99),
    }
)


@MANY
@given(sounds)
def test_lossless_files_give_back_the_mean_of_their_channels(sound):
    samples_TH = drawn(sound["seed"], sound["length"], sound["channels"])

    clip = decode_audio(written(samples_TH, sound["rate"], *sound["kind"]), name="clip")

    assert clip.sample_rate == sound["rate"]
    assert clip.samples.dtype == np.float32
    np.testing.assert_allclose(clip.samples, samples_TH.mean(axis=1), atol=1.1 * STEPS[sound["kind"]])


@MANY
@given(sounds, st.integers(1, 20_000))
def test_blocks_of_any_size_are_the_whole(sound, block_values):
    data = written(drawn(sound["seed"], sound["length"], sound["channels"]), sound["rate"], *sound["kind"])
    whole = decode_audio(data, name="clip").samples

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mats_ray.data.decoders.libsndfile.BLOCK_VALUES", block_values)
        with open_audio(data) as audio:
            blocks = list(audio)

    assert max(map(len, blocks)) <= max(1, block_values // sound["channels"])
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


@MANY
@given(sounds, st.floats(0.05, 1.0), st.floats(0.05, 1.0))
def test_no_limit_is_passed(sound, seconds, decoded):
    length, rate = sound["length"], sound["rate"]
    limits = Limits(
        max_seconds=seconds * 9_000 / rate, max_decoded_bytes=int(decoded * 4 * 9_000), max_bytes=2**20
    )
    data = written(drawn(sound["seed"], length, sound["channels"]), rate, *sound["kind"])
    assume(len(data) <= limits.max_bytes)
    within = length <= limits.max_seconds * rate and 4 * length <= limits.max_decoded_bytes

    try:
        with open_audio(data, limits=limits) as audio:
            num_decoded = sum(map(len, audio))
    except AudioDecodeError as error:
        assert not within
        assert error.code in {"too_long", "too_large"}  # noqa: PT017
    else:
        assert (within, num_decoded) == (True, length)


@MANY
@given(sounds, st.sampled_from([16_000, 44_100, 48_000]), st.integers(100, 20_000))
def test_resampling_keeps_the_duration_for_blocks_of_any_size(sound, wanted, block_values):
    data = written(drawn(sound["seed"], sound["length"], sound["channels"]), sound["rate"], *sound["kind"])
    length = sound["length"] * wanted / sound["rate"]
    assume(length >= 1)
    whole = decode_audio(data, name="clip", sample_rate=wanted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mats_ray.data.decoders.libsndfile.BLOCK_VALUES", block_values)
        with open_audio(data, sample_rate=wanted) as audio:
            blocks = np.concatenate(list(audio))

    assert whole.sample_rate == wanted
    assert abs(len(whole.samples) - length) <= 1
    np.testing.assert_allclose(blocks, whole.samples, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["mov", "mka"]),
    st.integers(4_000, 192_000),
    st.sampled_from([1, 2, 6]),
    st.integers(1, 20_000),
    st.integers(0, 99),
)
def test_ffmpegs_files_give_back_the_mean_of_their_channels(kind, rate, channels, length, seed):
    samples_T = drawn(seed, length, 1)[:, 0]

    clip = decode_audio(ffmpeg_bytes(samples_T, kind, rate=rate, channels=channels), name="clip")

    assert clip.sample_rate == rate
    np.testing.assert_allclose(clip.samples, samples_T, atol=2**-14)
