"""The end of tags."""

import io

import pytest

from mats_ray.data.decoders.id3_tags import tag_bytes

TAGS = {
    "id3": b"ID3\x04\0\0\0\0\1\x02" + bytes(130),
    "id3 with a footer": b"ID3\x04\0\x10\0\0\0\x02" + bytes(2) + b"3DI\x04\0\x10\0\0\0\x02",
    "id3v1": b"TAG" + bytes(125),
    "id3v1, extended": b"TAG+" + bytes(223),
    "ape, its head": b"APETAGEX\xd0\x07\0\0\x05\0\0\0\1\0\0\0\0\0\0\xa0" + bytes(8 + 5),
    "ape, its end alone": b"APETAGEX\xd0\x07\0\0\x05\0\0\0\1\0\0\0\0\0\0\x80" + bytes(8),
    "lyrics": b"LYRICSBEGIN" + b"la" * 99 + b"000209LYRICS200",
    "void": b"\xec\x90" + bytes(16),
}
OTHERS = [b"", b"ID3", b"ID3\x04\0\0\xff\0\0\0", b"APETAGEX", b"LYRICSBEGIN", bytes(99), b"RIFF"]


@pytest.mark.parametrize("tag", TAGS.values(), ids=TAGS.keys())
def test_the_length_of_a_tag_is_parsed(tag):
    assert tag_bytes(io.BytesIO(b"before" + tag + b"behind" * 20), 6) == len(tag)


@pytest.mark.parametrize("data", OTHERS)
def test_all_else_is_none(data):
    assert tag_bytes(io.BytesIO(data), 0) == 0
