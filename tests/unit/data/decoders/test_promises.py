"""How long files say they are."""

import io

import pytest
from mats_ray.data.decoders.promises import announces_seconds, is_short

from mats_ray.data.decoders.containers import container_of
from tests.sounds import FFMPEG_KINDS, ffmpeg_bytes, sndfile_bytes, tone

SELF_DELIMITED = ["m4a", "mp4", "mov", "3gp", "webm", "mka", "wma"]


def made(kind):
    data = ffmpeg_bytes(tone(1.0, 48_000), kind)
    return data, container_of(io.BytesIO(data))


@pytest.mark.parametrize("kind", FFMPEG_KINDS)
def test_a_whole_file_is_as_long_as_it_says(kind):
    data, container = made(kind)

    assert not is_short(io.BytesIO(data), container)
    assert not is_short(io.BytesIO(data + bytes(100)), container)  # what follows is no matter


@pytest.mark.parametrize("kind", SELF_DELIMITED)
@pytest.mark.parametrize("cut", [0.99, 0.5])
def test_a_cut_file_is_shorter(kind, cut):
    data, container = made(kind)

    assert is_short(io.BytesIO(data[: int(len(data) * cut)]), container)


def test_caf_says_how_long_it_is():
    data = sndfile_bytes(tone(), 16_000, format="CAF")

    assert not is_short(io.BytesIO(data), "caf")
    assert is_short(io.BytesIO(data[: len(data) // 2]), "caf")


def test_only_some_announce_seconds():
    announcing = {
        kind for kind in FFMPEG_KINDS if announces_seconds(io.BytesIO(made(kind)[0]), made(kind)[1])
    }

    assert announcing == {*SELF_DELIMITED, "alac"}


def test_matroska_without_its_duration_announces_none():
    data, _ = made("webm")

    assert not announces_seconds(io.BytesIO(data.replace(b"\x44\x89\x88", b"\xec\x80\x88")), "matroska")


@pytest.mark.parametrize("container", ["mov", "caf", "matroska", "asf", "aac"])
@pytest.mark.parametrize("data", [b"", b"\xff" * 3, b"\xff" * 500, bytes(500), b"\x18\x53\x80\x67", b"caff"])
def test_nonsense_is_taken_calmly(container, data):
    assert is_short(io.BytesIO(data), container) in {True, False}
