"""The first bytes decide who decodes."""

import io

import pytest

from mats_ray.data.decoders.containers import container_of
from tests.sounds import FFMPEG_KINDS, SNDFILE_KINDS, ffmpeg_bytes, sndfile_bytes, tone

EXPECTED = {
    **dict.fromkeys(["m4a", "alac", "mp4", "mov", "3gp"], "mov"),
    **dict.fromkeys(["webm", "mka"], "matroska"),
    "wma": "asf",
    "amr": "amr",
    "aac": "aac",
}


@pytest.mark.parametrize("kind", FFMPEG_KINDS)
def test_ffmpegs_files_are_told_by_content(kind):
    assert container_of(io.BytesIO(ffmpeg_bytes(tone(0.2, 48_000), kind))) == EXPECTED[kind]


@pytest.mark.parametrize("kind", SNDFILE_KINDS)
def test_what_libsndfile_reads_is_left_to_it(kind):
    assert container_of(io.BytesIO(sndfile_bytes(tone(), 16_000, **SNDFILE_KINDS[kind]))) is None


def test_a_tag_in_front_hides_neither_aac_nor_mp3():
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)

    assert container_of(io.BytesIO(tag + ffmpeg_bytes(tone(), "aac"))) == "aac"
    assert container_of(io.BytesIO(tag + sndfile_bytes(tone(), 16_000, format="MP3"))) is None


@pytest.mark.parametrize("data", [b"", b"I", b"ID3", b"\xff\xf1", b"#EXTM3U\nhttp://x/", b"ftypM4A "])
def test_everything_else_is_not_ffmpegs(data):
    assert container_of(io.BytesIO(data)) is None
