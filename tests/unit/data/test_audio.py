"""Audio in: what is whole is decoded as it is, everything else is an AudioError with a code and words."""

import io
import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mats_ray.data.audio import MAX_PEAK, Limits, decode_audio, open_audio, read_audio
from mats_ray.data.decoders.limits import MAX_CHANNELS
from mats_ray.errors import AudioDecodeError, AudioError
from tests.sounds import SNDFILE_KINDS, decoded, sndfile_bytes

RATE = 16_000
ESC10 = Path(__file__).parents[4] / "shared" / "data" / "esc10"


def tone(seconds=2.0, rate=RATE, channels=1):
    time = np.arange(round(seconds * rate)) / rate
    mono = 0.5 * np.sin(2 * np.pi * 440 * time).astype(np.float32)
    return mono if channels == 1 else np.stack([mono] * channels, axis=1)


def noise(seconds, rate=RATE):
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)


def without_xing(mp3):
    """Drop the first frame of an MP3, which counts the others (MPEG 2 at 16 kHz)."""
    start = next(i for i in range(len(mp3)) if mp3[i] == 0xFF and mp3[i + 1] & 0xE0 == 0xE0)
    kbps = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)[mp3[start + 2] >> 4]
    return mp3[start + 72_000 * kbps // RATE + (mp3[start + 2] >> 1 & 1) :]


def encoded(samples, rate=RATE, **kind):
    return sndfile_bytes(samples, rate, **kind)


def wav_header(*, channels=1, rate=RATE, bits=16, data_bytes=0):
    frame = channels * bits // 8
    riff = b"RIFF" + struct.pack("<I", min(data_bytes + 36, 2**32 - 1)) + b"WAVEfmt "
    fmt = struct.pack("<IHHIIHH", 16, 1, channels, rate, min(rate * frame, 2**32 - 1), frame % 2**16, bits)
    return riff + fmt + b"data" + struct.pack("<I", data_bytes)


def refusal(data, name="clip.wav", **limits):
    with pytest.raises(AudioDecodeError) as caught:
        decoded(data, name=name, **limits)
    assert name in str(caught.value)
    return caught.value


@pytest.mark.parametrize("kind", SNDFILE_KINDS.values(), ids=SNDFILE_KINDS.keys())
def test_every_format_gives_back_the_sound(kind):
    clip = decoded(encoded(tone(), **kind))

    assert (clip.sample_rate, clip.samples.dtype, clip.samples.shape) == (RATE, np.float32, (2 * RATE,))
    assert clip.name == "clip"
    assert np.corrcoef(clip.samples, tone())[0, 1] > 0.99


@pytest.mark.parametrize(("subtype", "step"), [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-23)])
def test_integer_samples_keep_their_precision(subtype, step):
    clip = decoded(encoded(tone(), format="WAV", subtype=subtype))

    np.testing.assert_allclose(clip.samples, tone(), atol=step)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000, 96_000, 192_000])
def test_the_sample_rate_is_kept(rate):
    clip = decoded(encoded(tone(0.5, rate), rate))

    assert clip.sample_rate == rate
    assert len(clip.samples) == round(0.5 * rate)


@pytest.mark.parametrize("channels", [2, 6, 8])
def test_channels_are_averaged(channels):
    samples = np.zeros((100, channels), np.float32)
    samples[:, 0] = 0.8

    clip = decoded(encoded(samples, format="WAV", subtype="FLOAT"))

    np.testing.assert_allclose(clip.samples, np.full(100, 0.8 / channels), rtol=1e-6)


def test_more_than_one_block_is_the_same_as_one(monkeypatch):
    whole = {kind: decoded(encoded(tone(), **how)).samples for kind, how in SNDFILE_KINDS.items()}
    monkeypatch.setattr("mats_ray.data.decoders.libsndfile.BLOCK_VALUES", 1000)

    for kind, how in SNDFILE_KINDS.items():
        np.testing.assert_array_equal(decoded(encoded(tone(), **how)).samples, whole[kind])


def test_a_flac_without_a_declared_length_is_decoded():
    flac = bytearray(encoded(tone(70.0), format="FLAC"))
    stream_info = int.from_bytes(flac[18:26], "big")
    flac[18:26] = (stream_info & ~(2**36 - 1)).to_bytes(8, "big")

    assert decoded(bytes(flac)).seconds == 70.0
    assert refusal(bytes(flac), max_seconds=69).code == "too_long"


def test_silence_is_audio():
    assert not decoded(encoded(np.zeros(1000))).samples.any()


def test_one_sample_is_audio():
    assert len(decoded(encoded(np.ones(1, np.float32) / 2)).samples) == 1


def test_a_stream_is_read_like_bytes(tmp_path):
    data = encoded(tone())
    path = tmp_path / "x.raw"  # a name that soundfile alone would take for the format
    path.write_bytes(data)

    with path.open("rb") as stream:
        streamed = decode_audio(stream, name="clip")

    np.testing.assert_array_equal(streamed.samples, decoded(data).samples)
    np.testing.assert_array_equal(read_audio(path).samples, streamed.samples)


def test_the_extension_does_not_decide_the_format(tmp_path):
    path = tmp_path / "really a flac # 100% ü.wav"
    path.write_bytes(encoded(tone(), format="FLAC"))

    assert read_audio(path).name == str(path)
    assert read_audio(str(path)).seconds == 2.0


def test_nothing_at_all():
    error = refusal(b"")
    assert error.code == "empty"
    assert "0 bytes" in str(error)


@pytest.mark.parametrize("kind", ["wav", "aiff", "ogg"])
def test_no_samples(kind):
    assert refusal(encoded(tone()[:0], **SNDFILE_KINDS[kind])).code == "empty"


@pytest.mark.parametrize(
    "data",
    [
        b"this is a note, not a sound\n" * 100,
        b"<html>Access denied</html>",
        b"\x89PNG\r\n\x1a\n" + bytes(999),
    ],
    ids=["text", "html", "png"],
)
def test_what_is_no_audio(data):
    error = refusal(data)
    assert error.code == "not_audio"
    assert "not audio" in str(error)


@pytest.mark.parametrize("kind", ["ogg", "opus", "wav", "aiff", "au", "mp3"])
@pytest.mark.parametrize("kept", [0.9, 0.5])
def test_the_error_of_a_truncated_file_names_its_length(kind, kept):
    data = encoded(noise(5.0), **SNDFILE_KINDS[kind])

    error = refusal(data[: int(len(data) * kept)])

    assert error.code == "truncated"
    seconds = float(str(error).split("only its first ")[1].split(" s ")[0])
    assert 0.5 < seconds < 5.0 * kept + 0.1


@pytest.mark.parametrize("kind", ["flac", "caf", "ogg", "opus"])
def test_a_file_cut_near_its_start(kind):
    data = encoded(tone(5.0), **SNDFILE_KINDS[kind])

    assert refusal(data[: len(data) // 20]).code == "truncated"


def test_a_damaged_flac_is_not_half_a_clip():
    data = bytearray(encoded(np.random.default_rng(0).uniform(-1, 1, 60_000), format="FLAC"))
    data[len(data) // 2 :][:500] = bytes(500)
    data[-20_000:-19_000] = bytes(1000)

    error = refusal(bytes(data))
    assert error.code == "damaged"
    assert "decoding failed" in str(error)


def test_a_wav_that_counts_its_header_as_data_is_whole():
    data = wav_header(data_bytes=3200 + 44) + bytes(3200)

    assert len(decoded(data).samples) == 1600


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_FFFF])
def test_a_wav_streamed_without_its_length_is_whole(size):
    assert len(decoded(wav_header(data_bytes=size) + bytes(3200)).samples) == 1600


def test_trailing_junk_after_an_ogg_is_not_a_cut():
    data = encoded(tone(), **SNDFILE_KINDS["ogg"])

    assert decoded(data + b"TAG" + bytes(125)).seconds == 2.0


def test_an_mp3_that_does_not_count_its_frames_is_not_a_cut():
    quiet = np.zeros(5 * RATE, np.float32)  # fewer bytes, so the length guessed from them is wrong
    data = without_xing(encoded(np.concatenate([quiet, noise(5.0), quiet]), **SNDFILE_KINDS["mp3"]))
    assert abs(soundfile.info(io.BytesIO(data)).duration - 15) > 2

    clip = decoded(data, max_seconds=16)

    assert 14.9 < clip.seconds < 15.2


def test_not_a_number():
    for bad in (np.nan, np.inf, -np.inf):
        samples = tone()
        samples[1234] = bad
        error = refusal(encoded(samples, format="WAV", subtype="FLOAT"))
        assert error.code == "not_finite"
        assert "1 of 32000" in str(error)


def test_not_a_number_in_one_of_two_channels():
    samples = tone(channels=2)
    samples[5, 1] = np.nan

    assert refusal(encoded(samples, format="WAV", subtype="FLOAT")).code == "not_finite"


def scaled(peak, channels=1):
    samples = np.zeros((RATE, channels))
    samples[1234, 0] = -peak
    return encoded(samples, format="WAV", subtype="DOUBLE")


@pytest.mark.parametrize("peak", [0.0, 1.0, 1.5, 8.0, MAX_PEAK])
def test_float_samples_may_go_beyond_full_scale(peak):
    assert np.abs(decoded(scaled(peak)).samples).max() == peak


@pytest.mark.parametrize(("peak", "bits"), [(2**15, 16), (20_000, 16), (2**23 - 1, 24), (2**31, 32)])
def test_the_error_of_integers_stored_as_floats_names_them(peak, bits):
    error = refusal(scaled(float(peak)))

    assert error.code == "unsupported"
    assert f"samples reach {peak:.4g}" in str(error)
    assert f"{bits}-bit integers: divide by {2 ** (bits - 1)}" in str(error)


@pytest.mark.parametrize(
    ("peak", "code"), [(65.0, "unsupported"), (1000.0, "unsupported"), (3e29, "damaged")]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_far_outside_are_no_sound(peak, code, channels):
    error = refusal(scaled(peak, channels))

    assert error.code == code
    assert "lie within [-1, 1]" in str(error)


def test_channels_that_cancel_out_are_looked_at_one_by_one():
    data = encoded(np.array([[3e29, -3e29]] * 100), format="WAV", subtype="DOUBLE")

    assert refusal(data).code == "damaged"


def test_what_is_beyond_float32_is_infinite():
    assert refusal(encoded(np.full(100, 1e300), format="WAV", subtype="DOUBLE")).code == "not_finite"


def test_too_long_is_seen_in_the_header():
    error = refusal(encoded(tone(3.0)), max_seconds=2)
    assert error.code == "too_long"
    assert "2 s" in str(error)


def test_a_length_just_at_the_limit_is_accepted():
    assert decoded(encoded(tone(2.0)), max_seconds=2).seconds == 2.0


def test_too_long_is_seen_while_decoding_when_the_header_declares_no_length(monkeypatch):
    monkeypatch.setattr("mats_ray.data.decoders.libsndfile.BLOCK_VALUES", RATE)

    error = refusal(without_xing(encoded(noise(20.0), **SNDFILE_KINDS["mp3"])), max_seconds=2)

    assert error.code == "too_long"
    assert "lasts 2 s or more" in str(error)  # it stopped there


def test_too_many_bytes():
    data = encoded(tone())
    assert refusal(data, max_bytes=len(data) - 1).code == "too_large"
    with pytest.raises(AudioDecodeError, match="more than 1000 bytes"):
        decode_audio(io.BytesIO(data), name="clip", max_bytes=1000)
    assert decoded(data, max_bytes=len(data)).seconds == 2.0


def test_too_many_decoded_bytes():
    data = encoded(tone(2.0))  # 32,000 samples of 4 bytes

    assert refusal(data, max_decoded_bytes=127_999).code == "too_large"
    assert decoded(data, max_decoded_bytes=128_000).seconds == 2.0


def test_a_forged_length_allocates_nothing():
    flac = bytearray(encoded(tone(), format="FLAC"))
    stream_info = int.from_bytes(flac[18:26], "big")
    flac[18:26] = (stream_info | 2**36 - 1).to_bytes(8, "big")  # 50 days

    assert refusal(bytes(flac)).code == "too_long"
    assert refusal(bytes(flac), max_seconds=1e9).code in {"too_large", "truncated"}
    assert len(decoded(wav_header(data_bytes=0xFFFF_FFF0) + bytes(100)).samples) == 50


def test_too_many_channels():
    channels = MAX_CHANNELS + 1
    data = wav_header(channels=channels, data_bytes=channels * 200) + bytes(channels * 200)

    error = refusal(data)
    assert error.code == "unsupported"
    assert f"{channels} channels" in str(error)


@pytest.mark.parametrize("rate", [1, 999, 2_000_000_000])
def test_absurd_sample_rates(rate):
    error = refusal(wav_header(rate=rate, data_bytes=3200) + bytes(3200))
    assert error.code == "unsupported"
    assert f"{rate} Hz" in str(error)


def test_a_sample_rate_of_zero():
    assert refusal(wav_header(rate=0, data_bytes=3200) + bytes(3200)).code == "damaged"


@pytest.mark.filterwarnings("error")
def test_random_damage_is_an_error_or_a_clip_and_nothing_else():
    draw = np.random.default_rng(0)
    for how in SNDFILE_KINDS.values():
        whole = encoded(tone(0.5), **how)
        for _ in range(60):
            data = bytearray(whole)
            for position in draw.integers(0, min(len(data), int(draw.choice([64, 512, 10**6]))), 6):
                data[position] = draw.choice([0, 255, draw.integers(256)])
            try:
                clip = decoded(bytes(data), max_seconds=100)
            except AudioError as error:
                assert error.code  # noqa: PT017
            else:
                assert len(clip.samples)
                assert np.isfinite(clip.samples).all()


def test_an_iterator_that_is_left_early_has_read_no_more(tmp_path):
    """A recording with a good start and a damaged end: reading only the start raises no error."""
    path = tmp_path / "long.wav"
    path.write_bytes(wav_header(data_bytes=400 * RATE) + bytes(200 * RATE))

    with open_audio(path) as audio:
        assert (audio.sample_rate, audio.name) == (RATE, str(path))
        assert len(next(iter(audio)))
    with pytest.raises(AudioDecodeError, match="cut off"), open_audio(path) as audio:
        for _ in audio:
            pass


def test_ten_hours_need_no_more_memory_than_a_block(tmp_path):
    path = tmp_path / "ten hours.wav"
    with path.open("wb") as file:  # a hole: no space on disk
        file.write(wav_header(data_bytes=2 * 1_000 * 36_000, rate=1_000))
        file.truncate(44 + 2 * 1_000 * 36_000)

    tracemalloc.start()
    with open_audio(path, sample_rate=2_000, limits=Limits(max_seconds=36_000)) as audio:
        num_samples = sum(len(block) for block in audio)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert num_samples == 2_000 * 36_000
    assert peak < 40 * 2**20  # whole, it would be 144 MB, and 288 MB resampled
    with pytest.raises(AudioDecodeError, match="lasts 36000 s or more, the limit is 3600 s"):
        read_audio(path)


def test_resampled_to_the_requested_rate():
    clip = decoded(encoded(tone(2.0)), sample_rate=48_000)

    assert (clip.sample_rate, clip.seconds, clip.samples.dtype) == (48_000, 2.0, np.float32)
    expected = tone(2.0, 48_000)
    np.testing.assert_allclose(clip.samples[2000:-2000], expected[2000:-2000], atol=1e-3)


def test_what_is_shorter_than_a_sample_after_resampling_is_empty():
    assert refusal(encoded(np.ones(1, np.float32), 48_000), sample_rate=8_000).code == "empty"


def test_an_error_of_the_consumer_is_not_converted():
    def consume():
        with open_audio(encoded(tone())) as audio:
            for _ in audio:
                raise FileNotFoundError("my own")

    with pytest.raises(FileNotFoundError, match="my own"):
        consume()


def test_missing_file(tmp_path):
    for missing in (tmp_path / "no.wav", tmp_path / "no" / "no.wav"):
        with pytest.raises(AudioError, match=r"no audio file .*no\.wav") as caught:
            read_audio(missing)
        assert caught.value.code == "not_found"


def test_a_folder_named_like_a_file(tmp_path):
    (tmp_path / "x.wav").mkdir()

    with pytest.raises(AudioError, match="is a folder") as caught:
        read_audio(tmp_path / "x.wav")
    assert caught.value.code == "not_found"


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.wav")

    with pytest.raises(AudioError, match="no regular file"):
        read_audio(tmp_path / "x.wav")


def test_limits_hold_for_files_too(tmp_path):
    path = tmp_path / "x.wav"
    path.write_bytes(encoded(tone()))

    for limits, code in (({"max_seconds": 1}, "too_long"), ({"max_bytes": 10}, "too_large")):
        with pytest.raises(AudioError) as caught:
            read_audio(path, **limits)
        assert caught.value.code == code


def test_an_error_survives_pickling():
    error = pickle.loads(pickle.dumps(refusal(b"")))

    assert (error.code, "empty" in str(error)) == ("empty", True)


@pytest.mark.shared
def test_real_recordings():
    if not ESC10.is_dir():
        pytest.skip(f"no recordings at {ESC10}")
    paths = sorted(ESC10.glob("*/*.ogg"))[::16]

    for path in paths:
        data = path.read_bytes()
        clip = read_audio(path)
        assert clip.sample_rate == 44_100
        assert 4.9 < clip.seconds < 5.1
        assert refusal(data[: len(data) // 2]).code == "truncated"
        assert refusal(data[:-1]).code == "truncated"
