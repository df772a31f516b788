"""MP3, MP2 and AAC: read to the last frame, whatever the first one declares."""

import io
import struct

import numpy as np
import pytest

from mats_ray.data.decoders.mpeg_frames import follows, frame_of, search
from mats_ray.errors import AudioDecodeError
from tests.sounds import decoded, ffmpeg_bytes, sndfile_bytes

RATE = 16_000


def tone(frequency, seconds=1.0, rate=RATE):
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def mp3(frequency=400, seconds=1.0, rate=RATE, channels=1):
    samples = tone(frequency, seconds, rate)
    return sndfile_bytes(np.stack([samples] * channels, axis=1), rate, format="MP3")


def bare(data):
    """Without the frame that counts the others."""
    return data[frame_of(data[:7]).num_bytes :]


def loudest(samples, rate=RATE):
    return round(
        float(np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))))) * rate / len(samples)
    )


def tones(clip):
    """The loudest frequency of each second."""
    rate = clip.sample_rate
    seconds = [clip.samples[start : start + rate] for start in range(0, len(clip.samples) - rate // 2, rate)]
    return [loudest(second, rate) for second in seconds]


def refusal(data, **limits):
    with pytest.raises(AudioDecodeError) as caught:
        decoded(data, **limits)
    return caught.value


def test_a_frame_header_is_parsed():
    assert frame_of(b"\xff\xfb\x90\x00\0\0\0").num_bytes == 417  # 128 kbit/s at 44.1 kHz
    assert frame_of(b"\xff\xf3\x40\xc0\0\0\0").num_samples == 576
    assert frame_of(b"\xff\xfd\xa4\x00\0\0\0").num_bytes == 576  # Layer II, 192 kbit/s at 48 kHz
    for none in (
        b"",
        b"\xff\xfb",
        b"\xff\xfb\xf0\x00\0\0\0",
        b"\xff\xe8\x90\x00\0\0\0",
        b"\xff\xf1\xfc\0\0\0\0",
    ):
        assert frame_of(none) is None


def test_a_single_match_is_no_stream():
    data = b"\xff\xfb\x90\x00" + bytes(2000)

    assert frame_of(data[:7])
    assert follows(io.BytesIO(data), 0, len(data), count=2) is None
    assert search(io.BytesIO(data), 0, len(data), reach=2000) is None


def test_joined_files_are_read_to_the_last():
    clip = decoded(mp3(400) + mp3(800) + mp3(1200))

    assert clip.seconds == 3.0  # to the sample: the encoder delay that each declares is kept
    assert tones(clip) == [400, 800, 1200]


@pytest.mark.parametrize("how", [{"rate": 24_000}, {"rate": 44_100, "channels": 2}, {"channels": 2}])
def test_a_joined_file_of_another_format_is_read_at_the_rate_of_the_first(how):
    clip = decoded(mp3(400) + mp3(800, **how))

    assert (clip.sample_rate, round(clip.seconds, 3)) == (RATE, 2.0)
    assert tones(clip) == [400, 800]


def test_joined_files_that_count_no_frames():
    clip = decoded(b"".join(bare(mp3(frequency)) for frequency in (400, 800, 1200)))

    assert 3.0 <= clip.seconds < 3.3


def test_aac_that_changes_its_format_half_way():
    first, second = (ffmpeg_bytes(tone(f, 1.0, r), "aac", rate=r) for f, r in ((400, 44_100), (800, 32_000)))

    assert tones(decoded(first + second)) == [400, 800]


@pytest.mark.parametrize("count", [0, 1, 10, 29])
def test_frames_beyond_a_count_that_is_too_small_are_read(count):
    data = bytearray(mp3())
    at = max(data.find(b"Xing"), data.find(b"Info")) + 8
    data[at : at + 4] = count.to_bytes(4, "big")

    clip = decoded(bytes(data))

    assert clip.seconds == 1.0
    assert tones(clip) == [400]


def test_a_count_that_is_too_large_is_a_cut():
    data = bytearray(mp3())
    at = max(data.find(b"Xing"), data.find(b"Info")) + 8
    data[at : at + 4] = (1000).to_bytes(4, "big")

    assert refusal(bytes(data)).code == "truncated"


def test_a_loud_start_does_not_shorten_the_rest():
    """A guess from the bit rate at the start would end the file there."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, RATE)
    data = bare(sndfile_bytes(np.concatenate([noise, np.zeros(4 * RATE)]), RATE, format="MP3"))

    assert 5.0 <= decoded(data).seconds < 5.2


APE = b"APETAGEX" + struct.pack("<IIII", 2000, 59, 1, 0xA000_0000) + bytes(8) + bytes(27)
APE_END = b"APETAGEX" + struct.pack("<IIII", 2000, 59, 1, 0x8000_0000) + bytes(8)
ID3 = b"ID3\x04\0\0\0\0\0\x64" + bytes(100)
FOOTER = b"ID3\x04\0\x10\0\0\0\x64" + bytes(100) + b"3DI\x04\0\x10\0\0\0\x64"
HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n"
FRONTS = {
    "id3": ID3,
    "two id3": ID3 + ID3,
    "id3 footer": FOOTER,
    "id3 and zeros": ID3 + bytes(3000),
    "id3 of a wrong size": b"ID3\x03\0\0\0\0\0\x0a" + b"x" * 300,
    "ape": APE + APE_END,
    "zeros": bytes(1000),
    "text": HTTP,
    "noise": np.random.default_rng(3).bytes(5000),
}


@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS.keys())
def test_bytes_in_front_of_an_mp3_are_skipped(front):
    clip = decoded(front + mp3())

    assert clip.seconds == 1.0
    assert tones(clip) == [400]


ENDS = {
    "id3v1": b"TAG" + bytes(125),
    "ape": APE + APE_END,
    "ape and id3v1": APE + APE_END + b"TAG" + bytes(125),
    "lyrics": b"LYRICSBEGIN" + b"la" * 200 + b"000411LYRICS200" + b"TAG" + bytes(125),
    "id3v2": ID3,
    "zeros": bytes(9000),
    "a little text": b"the end" * 20,
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("kind", ["mp3", "aac", "flac"])
def test_bytes_behind_the_frames_are_no_sound(kind, end):
    data = ffmpeg_bytes(tone(400), "aac", rate=RATE) if kind == "aac" else None
    data = data or sndfile_bytes(tone(400), RATE, format=kind.upper())

    assert len(decoded(data + end).samples) == len(decoded(data).samples)


def test_a_tag_within_a_stream_interrupts_nothing():
    data = bare(mp3(seconds=3.0))
    size = frame_of(data[:7]).num_bytes

    tagged = decoded(data[: 20 * size] + ID3 + data[20 * size :])

    np.testing.assert_array_equal(tagged.samples, decoded(data).samples)


def test_much_behind_the_end_may_be_sound():
    data = mp3()

    error = refusal(data + b"what is this? " * len(data))
    assert error.code == "damaged"
    assert "of no known kind" in str(error)


@pytest.mark.parametrize("kept", [0.9, 0.5, 0.2])
@pytest.mark.parametrize("kind", ["mp3", "bare", "tagged", "joined", "aac", "latm", "mp2"])
def test_a_cut_stream_is_no_shorter_clip(kind, kept):
    whole = {
        "mp3": lambda: mp3(seconds=3.0),
        "bare": lambda: bare(mp3(seconds=3.0)),
        "tagged": lambda: ID3 + mp3(seconds=3.0),
        "joined": lambda: mp3(400, 3.0) * 2,
    }.get(kind, lambda: ffmpeg_bytes(tone(400, 3.0), kind, rate=RATE))()

    assert refusal(whole[: int(len(whole) * kept) + 1]).code == "truncated"


@pytest.mark.parametrize("kind", ["mp3", "aac"])
def test_a_hole_is_not_passed_over(kind):
    whole = bare(mp3(seconds=20.0)) if kind == "mp3" else ffmpeg_bytes(tone(400, 20.0), "aac", rate=RATE)
    middle = len(whole) // 2

    for hole in (bytes(3000), np.random.default_rng(0).bytes(3000)):
        assert refusal(whole[:middle] + hole + whole[middle + 3000 :]).code == "damaged"


def test_a_stream_that_is_too_long_is_seen_before_it_is_decoded():
    assert refusal(bare(mp3(seconds=3.0)), max_seconds=2).code == "too_long"


@pytest.mark.parametrize("layer", [1, 2])
def test_other_layers(layer):
    if layer == 2:
        data = ffmpeg_bytes(tone(400), "mp2", rate=RATE)
        assert tones(decoded(data)) == [400]
    else:  # silence, by hand: 32 kbit/s at 32 kHz
        data = (b"\xff\xff\x18\xc0" + bytes(44)) * 100
        clip = decoded(data)
        assert (clip.sample_rate, len(clip.samples)) == (32_000, 38_400)


def test_a_single_frame():
    data = bare(mp3())
    size = frame_of(data[:7]).num_bytes

    assert len(decoded(data[:size]).samples)
    assert refusal(data[: size + 50]).code == refusal(data[: size - 1]).code == "truncated"
