"""The first bytes choose the decoder, and joined files are split."""

import io

import pytest

from mats_ray.data.decoders.containers import split_segments
from mats_ray.data.decoders.limits import Limits
from mats_ray.errors import AudioDecodeError
from tests.sounds import FFMPEG_KINDS, RATES, SNDFILE_KINDS, decoded, ffmpeg_bytes, sndfile_bytes, tone

READERS = {
    **dict.fromkeys(["m4a", "alac", "mp4", "mov", "3gp"], ("mov",)),
    **dict.fromkeys(["webm", "mka"], ("matroska",)),
    "wma": ("asf",),
    "amr": ("amr",),
    "aac": ("aac",),
    "latm": ("loas",),
    "mp2": ("mp3",),
    "oga": ("ogg",),
    **dict.fromkeys(["wav", "rf64", "wav with ac3"], ("libsndfile", "wav")),
    **{kind: ("libsndfile", kind) for kind in ("aiff", "au", "caf", "w64", "mp3")},
    **dict.fromkeys(["flac", "ogg", "opus"], ("libsndfile",)),
}
KINDS = [*FFMPEG_KINDS, *SNDFILE_KINDS]


def made(kind):
    if kind in FFMPEG_KINDS:
        rate = 32_000 if kind == "wav with ac3" else RATES.get(kind, 48_000)
        return ffmpeg_bytes(tone(0.5, rate), kind, rate=rate)
    return sndfile_bytes(tone(0.5), 16_000, **SNDFILE_KINDS[kind])


def segments(data):
    return list(split_segments(io.BytesIO(data), len(data), "clip", Limits()))


def refusal(data):
    with pytest.raises(AudioDecodeError) as caught:
        decoded(data)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_recognised_by_content(kind):
    data = made(kind)

    [segment] = segments(data)
    assert (segment.readers, segment.end) == (READERS[kind], len(data))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [100, 1000, 3000, 20_000])
def test_a_tag_in_front_hides_nothing(kind, size):
    """libsndfile alone steps over it, and then loses as much at the end."""
    tag = b"ID3\x04\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + b"x" * size

    assert len(decoded(tag + made(kind)).samples) == len(decoded(made(kind)).samples)


@pytest.mark.parametrize("first", ["wav", "mp3", "ogg", "m4a"])
@pytest.mark.parametrize("second", ["wav", "mp3", "flac", "webm"])
def test_files_of_two_kinds_in_one(first, second):
    joined = decoded(made(first) + made(second))

    assert joined.seconds == pytest.approx(
        decoded(made(first)).seconds + decoded(made(second)).seconds, abs=1e-3
    )


UNREAD = {
    "True Audio": b"TTA1",
    "WavPack": b"wvpk",
    "Monkey's Audio": b"MAC ",
    "Musepack": b"MP+",
    "DSD": b"DSD ",
    "Shorten": b"ajkg",
    "RealMedia": b".RMF",
    "AVI": b"RIFF\x64\0\0\0AVI LIST",
    "Flash video": b"FLV\x01",
    "AC-3": b"\x0b\x77",
    "MPEG program stream": b"\0\0\x01\xba",
    "MPEG transport stream": (b"G" + bytes(187)) * 3,
}


@pytest.mark.parametrize("kind", UNREAD)
@pytest.mark.parametrize("tag", [b"", b"ID3\x04\0\0\0\0\0\x64" + bytes(100)], ids=["bare", "tagged"])
def test_sound_of_a_kind_that_is_not_read_is_called_by_its_name(kind, tag):
    error = refusal(tag + UNREAD[kind] + bytes(500))

    assert error.code == "unsupported"
    assert kind in str(error)


@pytest.mark.parametrize(
    "data",
    [
        *["This is text. ".encode(coding) * 60 for coding in ("utf-8-sig", "utf-16", "utf-16-be", "utf-32")],
        *["Hi".encode(coding) for coding in ("utf-8-sig", "utf-16", "latin-1")],
        *[
            b"#EXTM3U\nhttp://x/",
            b"\xff" * 5000,
            bytes(5000),
            b"RIFF\x10\0\0\0WEBPVP8 ",
            b"PK\x03\x04" + bytes(99),
        ],
        *[
            b"buy free skip sidx mdat",
            b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(range(256)) * 9,
        ],
    ],
)
def test_what_is_no_sound(data, capfd):
    assert refusal(data).code == "not_audio"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "data", [b"\xff\xf1\x50\x80\x10\0\xfc", b"\xff\xfb\x90\x00" + bytes(50), b"ID3\x04\0\0\0\0\x10\0"]
)
def test_less_than_a_frame_or_a_tag_is_a_cut(data):
    assert refusal(data).code == "truncated"


def test_absurdly_many_parts():
    assert "more than 1024 parts" in str(refusal(sndfile_bytes(tone(0.01), 16_000) * 1100))
