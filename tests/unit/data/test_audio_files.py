"""One file: its path as text, and an identity that follows its content."""

import os

import pytest

from mats_ray.data.audio_files import local_path, path_text, stat_audio


def test_a_file_has_its_size_and_the_identity_of_its_content(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"four")
    os.utime(path, ns=(0, 1_000_000_000))
    before = stat_audio(str(path))
    os.utime(path, ns=(0, 2_000_000_000))

    assert (before.path, before.size) == (str(path), 4)
    assert before.etag != stat_audio(str(path)).etag


def test_what_cannot_be_reached_has_no_identity(tmp_path):
    (tmp_path / "broken.wav").symlink_to(tmp_path / "nowhere.wav")

    for name in ("broken.wav", "none.wav"):
        found = stat_audio(str(tmp_path / name))
        assert (found.size, found.etag) == (0, "")


@pytest.mark.parametrize("name", [b"caf\xe9.wav", "é.wav".encode(), b"\\xe9.wav"])
def test_a_path_as_text_finds_its_file_again(tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), name)  # noqa: PTH118  (bytes)
    with open(path, "wb"):  # noqa: PTH123
        pass

    text = path_text(os.fsdecode(path))

    text.encode()
    assert os.fsencode(local_path(text)) == path
