"""WAV and its kin: sizes that cannot be, chunks that lie askew, codecs that libsndfile does not support."""

import struct

import numpy as np
import pytest

from mats_ray.errors import AudioDecodeError
from tests.sounds import decoded, ffmpeg_bytes, sndfile_bytes, tone

RATE = 16_000
SOUND = tone(1.0)
DATA_AT = {"WAV": b"data", "RIFX": b"data", "RF64": b"data", "AIFF": b"SSND", "CAF": b"data", "W64": b"data"}


def made(kind, **how):
    if kind == "RIFX":
        return sndfile_bytes(SOUND, RATE, format="WAV", endian="BIG", **how)
    return sndfile_bytes(SOUND, RATE, format=kind, **how)


def sized(data, place, number, width, order):
    return data[:place] + number.to_bytes(width, order) + data[place + width :]


def data_size(kind, number):
    """A file whose chunk of samples declares a number of bytes."""
    data = made(kind)
    order = "little" if kind in {"WAV", "RF64", "W64"} else "big"
    if kind == "AU":
        return sized(data, 8, number, 4, "big" if data.startswith(b".snd") else "little")
    at = data.index(DATA_AT[kind]) + (16 if kind == "W64" else 4)
    return sized(data, at, number, 8 if kind in {"W64", "CAF"} else 4, order)


def code(data):
    with pytest.raises(AudioDecodeError) as caught:
        decoded(data)
    return caught.value.code


def is_whole(data, *, longer=0.0):
    clip = decoded(data)
    assert 1.0 <= clip.seconds <= 1.0 + longer
    assert np.corrcoef(clip.samples[:RATE], SOUND)[0, 1] > 0.99


UNKNOWN = [
    *[(kind, size) for kind in ("WAV", "RIFX", "AIFF", "AU") for size in (0, 2**32 - 1, 2**31 - 1)],
    *[("CAF", size) for size in (0, 2**64 - 1)],
    *[("W64", size) for size in (0, 24, 2**63 - 1, 2**64 - 1)],
    *[("RF64", size) for size in (0, 2**32 - 1)],
]


@pytest.mark.parametrize(("kind", "size"), UNKNOWN)
def test_a_size_that_was_never_filled_in_means_to_the_end(kind, size):
    is_whole(data_size(kind, size))


@pytest.mark.parametrize("kind", ["WAV", "AIFF"])
def test_both_sizes_were_never_filled_in(kind):
    data = data_size(kind, 0)

    is_whole(data[:4] + bytes(4) + data[8:])


@pytest.mark.parametrize("kind", ["WAV", "AIFF"])
def test_the_outer_size_shows_a_cut_where_the_inner_one_was_never_filled_in(kind):
    data = data_size(kind, 0)

    assert code(data[: len(data) // 2]) == "truncated"


def test_rf64_whose_long_sizes_were_never_filled_in():
    data = made("RF64")
    at = data.index(b"ds64") + 8

    is_whole(data[:at] + bytes(24) + data[at + 24 :])


def test_bw64_is_rf64_by_another_name():
    is_whole(b"BW64" + made("RF64")[4:])


@pytest.mark.parametrize("kind", ["WAV", "RIFX", "AIFF", "AU", "W64", "RF64", "CAF"])
@pytest.mark.parametrize("kept", [0.85, 0.5, 0.1])
def test_a_cut_file_is_no_shorter_clip(kind, kept):
    data = made(kind)

    assert code(data[: int(len(data) * kept)]) in {"truncated", "damaged"}


def test_less_than_a_block_of_a_cut_file_is_not_empty():
    data = made("WAV", subtype="MS_ADPCM")

    assert code(data[:200]) == "truncated"


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "AU"])
def test_a_size_that_is_too_small_leaves_nothing_unread(kind):
    assert code(data_size(kind, 1000)) == "damaged"


@pytest.mark.parametrize("kind", ["WAV", "RIFX", "AIFF", "AU", "W64", "RF64", "CAF"])
def test_joined_files_are_read_on(kind):
    other = sndfile_bytes(np.stack([tone(0.5, 8_000)] * 2, axis=1), 8_000, format=kind.replace("RIFX", "WAV"))

    clip = decoded(made(kind) + other)

    assert (clip.sample_rate, clip.seconds) == (RATE, 1.5)
    np.testing.assert_allclose(clip.samples[: RATE - 100], SOUND[:-100], atol=1e-3)
    np.testing.assert_allclose(clip.samples[RATE + 500 : -500], tone(0.5)[500:-500], atol=1e-2)


def info_chunk(text):
    body = b"INFOISFT" + struct.pack("<I", len(text)) + text
    return b"LIST" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    "behind",
    [
        info_chunk(b"even"),
        info_chunk(b"odd"),
        b"id3 \x14\0\0\0" + bytes(20),
        b"TAG" + bytes(125),
        bytes(9000),
    ],
    ids=["list", "odd list", "id3", "tag", "zeros"],
)
def test_what_is_behind_the_samples_is_no_sound(behind):
    clip = decoded(made("WAV") + behind)

    assert len(clip.samples) == RATE


@pytest.mark.parametrize("padding", [b"\0", b""], ids=["padded", "unpadded"])
def test_an_odd_chunk_in_front_of_the_samples(padding):
    data = made("WAV")

    is_whole(data[:36] + info_chunk(b"odd") + padding + data[36:])


@pytest.mark.parametrize("mask", [0, 1, 0x3F, 0x8000_0000, 0xFFFF_FFFF])
def test_a_channel_mask_is_ignored(mask):
    data = sndfile_bytes(np.stack([SOUND] * 2, axis=1), RATE, format="WAVEX")

    is_whole(sized(data, 40, mask, 4, "little"))


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        *[
            ("WAV", subtype)
            for subtype in ("PCM_U8", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")
        ],
        *[("AIFF", subtype) for subtype in ("PCM_S8", "FLOAT", "ULAW", "IMA_ADPCM", "GSM610")],
        *[("AU", subtype) for subtype in ("PCM_24", "FLOAT", "ULAW", "G721_32")],
        *[("CAF", subtype) for subtype in ("ALAC_16", "FLOAT", "ALAW")],
        *[("W64", subtype) for subtype in ("PCM_24", "IMA_ADPCM", "ULAW")],
    ],
)
def test_kinds_of_samples(kind, subtype):
    is_whole(made(kind, subtype=subtype), longer=0.03)


@pytest.mark.parametrize("codec", ["ac3", "eac3", "wmav2", "g722", "mp2", "libmp3lame", "adpcm_ms"])
def test_a_wav_that_ffmpeg_must_read(codec):
    rate = 32_000 if "ac3" in codec else RATE
    data = ffmpeg_bytes(tone(1.0, rate), "wav with ac3", rate=rate, codec=codec)

    clip = decoded(data)

    assert clip.sample_rate == rate
    assert abs(clip.seconds - 1) < 0.1
    spectrum = np.abs(np.fft.rfft(clip.samples * np.hanning(len(clip.samples))))
    assert abs(np.argmax(spectrum) * rate / len(clip.samples) - 440) < 2
    assert code(data[: len(data) // 2]) == "truncated"


@pytest.mark.parametrize("codec", ["aac", "libopencore_amrnb", "adpcm_yamaha"])
def test_a_codec_that_is_not_read_is_not_damage(codec):
    rate = 8_000 if "amr" in codec else RATE

    assert code(ffmpeg_bytes(tone(1.0, rate), "wav with ac3", rate=rate, codec=codec)) == "unsupported"


def test_samples_are_wanted():
    data = made("WAV")

    assert code(data[:36]) == "truncated"
    assert code(data[:36] + b"junk" + struct.pack("<I", 4) + bytes(4) + b"\xff" * 50) == "damaged"
