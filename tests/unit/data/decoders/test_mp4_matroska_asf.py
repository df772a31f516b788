"""MP4, Matroska, ASF and AMR: where they end, and whether they are all there."""

import io

import pytest

from mats_ray.data.decoders import mp4_matroska_asf
from mats_ray.errors import AudioDecodeError
from tests.sounds import FFMPEG_KINDS, RATES, decoded, ffmpeg_bytes, tone

PARSERS = {
    **dict.fromkeys(["m4a", "mp4", "mov", "3gp", "alac"], mp4_matroska_asf.mp4_segment),
    **dict.fromkeys(["webm", "mka"], mp4_matroska_asf.matroska_segment),
    "wma": mp4_matroska_asf.asf_segment,
    "amr": mp4_matroska_asf.amr_segment,
}
SELF_DELIMITED = [kind for kind in PARSERS if kind != "amr"]
FRAGMENTED = {"movflags": "dash+empty_moov+default_base_moof", "frag_duration": "200000"}


def made(kind, seconds=1.0, **how):
    return ffmpeg_bytes(tone(seconds, RATES.get(kind, 48_000)), kind, rate=RATES.get(kind, 48_000), **how)


def segment_of(kind, data, start=0):
    return PARSERS[kind](io.BytesIO(data), start, len(data), "clip")


@pytest.mark.parametrize("kind", PARSERS)
def test_a_whole_file_has_its_declared_length(kind):
    data = made(kind)

    segment = segment_of(kind, data)
    assert (segment.end, segment.missing) == (len(data), 0)
    assert segment_of(kind, b"before" + data + data, 6).end == 6 + len(data)


@pytest.mark.parametrize("kind", SELF_DELIMITED)
@pytest.mark.parametrize("cut", [0.99, 0.5])
def test_a_cut_file_is_shorter(kind, cut):
    data = made(kind)

    assert segment_of(kind, data[: int(len(data) * cut)]).missing > 0


def test_only_some_formats_declare_their_duration():
    assert {kind for kind in PARSERS if segment_of(kind, made(kind)).has_duration} == set(SELF_DELIMITED)


def test_matroska_without_a_duration_element_declares_none():
    data = made("webm").replace(b"\x44\x89\x88", b"\xec\x80\x88")

    assert not segment_of("webm", data).has_duration


def test_matroska_written_live_ends_with_its_last_block():
    data = made("webm", 3.0, options={"live": "1"})

    segment = segment_of("webm", data)
    assert (segment.end, segment.missing, segment.has_duration) == (len(data), 0, False)
    assert segment_of("webm", data + data).end == len(data)
    assert segment_of("webm", data[: len(data) * 2 // 3 + 1]).missing > 0
    with pytest.raises(AudioDecodeError) as caught:
        decoded(data[: len(data) * 2 // 3 + 1])
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("kind", PARSERS)
def test_joined_files_are_read_to_the_last(kind):
    one, two = made(kind), made(kind, 2.0)

    clip = decoded(one + two)

    assert clip.seconds == pytest.approx(decoded(one).seconds + decoded(two).seconds)
    with pytest.raises(AudioDecodeError) as caught:
        decoded(one + two[: len(two) // 2 + 1])
    assert caught.value.code in {"truncated", "damaged"}


BOXES = ["free", "skip", "wide", "uuid", "sidx", "styp", "junk", "pnot", "emsg"]


@pytest.mark.parametrize("first", BOXES)
def test_any_box_may_come_first(first):
    box = (24).to_bytes(4, "big") + first.encode() + bytes(16)

    assert decoded(box + made("mp4", options=FRAGMENTED)).seconds == pytest.approx(1, abs=0.1)


def test_matroska_may_start_with_a_void():
    assert decoded(b"\xec\x90" + bytes(16) + made("mka")).seconds == 1.0


@pytest.mark.parametrize("parser", sorted(set(PARSERS.values()), key=str), ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("data", [b"", b"\xff" * 3, b"\xff" * 500, bytes(500), b"\x18\x53\x80\x67", b"caff"])
def test_random_bytes_raise_no_unexpected_error(parser, data):
    assert parser(io.BytesIO(data), 0, len(data), "clip").end <= len(data)


@pytest.mark.parametrize("kind", sorted(set(FFMPEG_KINDS) - {"amr"}))  # to which zeros are frames
def test_what_follows_is_no_matter(kind):
    data = made(kind)

    assert len(decoded(data + bytes(5000)).samples) == len(decoded(data).samples)
