"""Formats that only FFmpeg reads: whole files are decoded, others are errors, no other file is opened."""

import io
import subprocess
import sys

import numpy as np
import pytest

from mats_ray.data.audio import Limits, open_audio
from mats_ray.data.decoders import ffmpeg
from mats_ray.data.decoders.segments import Segment, View
from mats_ray.errors import AudioDecodeError
from tests.sounds import FFMPEG_KINDS, RATES, decoded, ffmpeg_bytes, tone


def sound(kind, seconds=3.0, **how):
    return ffmpeg_bytes(tone(seconds, how.get("rate") or RATES.get(kind, 44_100)), kind, **how)


def noise(seconds, rate=44_100):
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)


def refusal(data, **limits):
    with pytest.raises(AudioDecodeError) as caught:
        decoded(data, **limits)
    assert "clip" in str(caught.value)
    return caught.value


def loudest_frequency(samples, rate):
    return np.argmax(np.abs(np.fft.rfft(samples))) * rate / len(samples)


@pytest.mark.parametrize("kind", FFMPEG_KINDS)
def test_every_format_gives_back_the_sound(kind):
    clip = decoded(sound(kind))

    assert (clip.samples.dtype, clip.samples.ndim) == (np.float32, 1)
    assert clip.sample_rate == RATES.get(kind, 44_100)
    assert abs(clip.seconds - 3.0) < 0.1
    assert abs(loudest_frequency(clip.samples, clip.sample_rate) - 440) < 1
    middle = clip.samples[len(clip.samples) // 4 : len(clip.samples) // 2]
    assert abs(np.sqrt(np.mean(middle**2)) - 0.5 / np.sqrt(2)) < 0.07  # AMR is for speech


@pytest.mark.parametrize("kind", ["mov", "alac", "mka"])
def test_lossless_formats_are_exact(kind):
    clip = decoded(sound(kind))

    np.testing.assert_allclose(clip.samples, tone(3.0, 44_100), atol=2**-14)


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_are_averaged(channels):
    clip = decoded(sound("mov", channels=channels))

    np.testing.assert_allclose(clip.samples, tone(3.0, 44_100), atol=2**-14)


def test_blocks_are_the_whole(monkeypatch):
    data = sound("m4a")
    whole = decoded(data).samples
    monkeypatch.setattr("mats_ray.data.decoders.ffmpeg.BLOCK_VALUES", 2000)

    with open_audio(data) as audio:
        blocks = list(audio)

    assert len(blocks) > 50
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_the_number_of_channels_may_change_half_way():
    parts = [ffmpeg_bytes(tone(3.0, 44_100), "latm", channels=channels) for channels in (1, 2, 1)]

    joined = decoded(b"".join(parts)).samples

    for part, found in zip(parts, np.split(joined, 3), strict=True):
        np.testing.assert_allclose(found[4096:-4096], decoded(part).samples[4096:-4096], atol=1e-4)


def test_the_sound_of_a_video_is_read_whole_when_the_picture_is_longer():
    for kind in ("mp4", "mka"):
        clip = decoded(sound(kind, video_seconds=5))
        assert abs(clip.seconds - 3.0) < 0.1


def test_a_video_without_sound(monkeypatch):
    data = sound("mka", video_seconds=3).replace(
        b"A_PCM/INT/LIT", b"S_TEXT/UTF8__"
    )  # the track is one of subtitles now

    assert refusal(data).code in {"not_audio", "unsupported"}


@pytest.mark.parametrize("kind", FFMPEG_KINDS)
@pytest.mark.parametrize("kept", [0.95, 0.5, 0.05])
def test_a_truncated_file_is_no_shorter_clip(kind, kept):
    rate = RATES.get(kind, 44_100)
    data = ffmpeg_bytes(noise(5.0, rate), kind)

    # a byte more: exactly behind a frame, nothing shows that there were others
    assert refusal(data[: int(len(data) * kept) + 1]).code == "truncated"


def test_a_truncated_file_that_starts_with_its_index():
    data = sound("mp4", options={"movflags": "empty_moov", "frag_duration": "200000"})
    assert abs(decoded(data).seconds - 3.0) < 0.1

    error = refusal(data[: len(data) // 2])

    assert error.code == "truncated"
    assert "first 1." in str(error)


def test_damage_in_the_middle_is_not_half_a_clip():
    data = bytearray(ffmpeg_bytes(noise(5.0), "aac"))
    data[len(data) // 2 :][:2000] = bytes(2000)
    data[len(data) // 2 - 500 : len(data) // 2 + 500] = bytes(1000)

    assert refusal(bytes(data)).code == "damaged"


@pytest.mark.parametrize("kind", ["m4a", "webm", "wma"])
def test_too_long_is_seen_in_the_header(kind, monkeypatch):
    data = sound(kind)
    monkeypatch.setattr(ffmpeg.FFmpegDecoder, "blocks", None)  # nothing is decoded for it

    assert refusal(data, max_seconds=2).code == "too_long"


@pytest.mark.parametrize("kind", ["aac", "amr"])
def test_too_long_is_seen_while_decoding_when_the_header_declares_no_length(kind, monkeypatch):
    monkeypatch.setattr("mats_ray.data.decoders.ffmpeg.BLOCK_VALUES", 8_000)
    data = sound(kind, seconds=10.0)

    error = refusal(data, max_seconds=2)

    assert error.code == "too_long"
    assert "lasts 2 s or more" in str(error) or "lasts 3 s or more" in str(error)  # it stopped there


@pytest.mark.parametrize("size", [2**63 - 1, 2**62, 2**45, 17])
def test_a_box_that_reaches_beyond_every_file(size):
    """Found by fuzzing: such places cannot be sought, in memory for one reason, on disk for another."""
    whole = sound("m4a")
    at = int.from_bytes(whole[:4], "big")  # behind "ftyp"
    data = whole[:at] + b"\0\0\0\1skip" + size.to_bytes(8, "big") + whole[at:]

    assert refusal(data).code in {"truncated", "damaged"}


def test_limits_on_bytes_hold():
    data = sound("m4a")

    assert refusal(data, max_bytes=len(data) - 1).code == "too_large"
    assert refusal(data, max_decoded_bytes=100_000).code == "too_large"


def test_a_codec_that_is_not_listed_is_unsupported(monkeypatch):
    data = sound("alac")
    monkeypatch.setattr(ffmpeg, "CODECS", ("aac",))

    error = refusal(data)

    assert error.code == "unsupported"
    assert "alac" in str(error)


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{url}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{path}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_is_not_audio(kind, tmp_path):
    (secret := tmp_path / "secret.m4a").write_bytes(sound("m4a"))
    playlist = PLAYLISTS[kind].format(url=secret.as_uri(), path=secret).encode()

    assert refusal(playlist).code == "not_audio"


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_ffmpeg_would_not_follow_one_either(kind, tmp_path):
    """The restrictions themselves: a demuxer for lists, forced on it, is refused before it opens anything."""
    (secret := tmp_path / "secret.m4a").write_bytes(sound("m4a"))
    playlist = PLAYLISTS[kind].format(url=secret.as_uri(), path=secret).encode()

    segment = Segment(end=len(playlist), readers=(kind,), pieces=(playlist,))
    held = ffmpeg.open_ffmpeg(View(io.BytesIO(), segment.pieces), segment, "clip", Limits(), container=kind)
    with pytest.raises(AudioDecodeError), held:
        pass


def test_nothing_is_printed():
    """FFmpeg logs to stderr by default."""
    script = (
        "import sys\nfrom mats_ray.data.audio import decode_audio\n"
        "data = sys.stdin.buffer.read()\n"
        "for kept in (1.0, 0.9, 0.5):\n"
        "    try:\n        decode_audio(data[: int(len(data) * kept)], name='clip')\n"
        "    except Exception: pass\n"
    )
    data = ffmpeg_bytes(noise(3.0), "mp4", options={"movflags": "empty_moov", "frag_duration": "200000"})

    done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True)

    assert done.stdout + done.stderr == b""
