"""Everything that is audio is found, in one order, with an identity that follows its content."""

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from mats_ray.data import audio_listing
from mats_ray.data.audio_listing import format_left_out, list_audio
from mats_ray.errors import DataError
from tests.s3 import s3_server

NAMES = ["b.wav", "a/deep/c.FLAC", "a/x.ogg", "with space é # 100%.mp3", "z.opus", "old.m4a"]


@pytest.fixture
def folder(tmp_path):
    for name in [*NAMES, "notes.txt", "a/cover.jpg", "README"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


@pytest.fixture(scope="module")
def bucket():
    with s3_server("sounds") as files:
        for name in [*NAMES, "notes.txt"]:
            files.pipe_file(f"sounds/in/{name}", name.encode())
        files.pipe_file("sounds/inner/other.wav", b"not below in/")
        files.pipe_file("sounds/quiet/notes.txt", b"text")
        yield files


def test_a_folder_is_searched_by_extension_and_sorted(folder):
    found = list_audio(str(folder))

    assert [one.path for one in found] == sorted(str(folder / name) for name in NAMES)
    assert all(one.size == Path(one.path).stat().st_size for one in found)


def test_paths_are_absolute_however_the_folder_is_spelled(folder, monkeypatch):
    monkeypatch.chdir(folder / "a")

    assert list_audio("../a/./deep/") == list_audio(str(folder / "a" / "deep"))
    assert list_audio("x.ogg")[0].path == str(folder / "a" / "x.ogg")


def test_one_file_is_accepted_whatever_its_name(folder):
    assert [one.path for one in list_audio(str(folder / "notes.txt"))] == [str(folder / "notes.txt")]


def test_the_identity_follows_the_content(folder):
    def etags():
        return {one.path: one.etag for one in list_audio(str(folder))}

    before = etags()
    assert etags() == before
    changed = folder / "b.wav"
    changed.write_bytes(b"other")
    os.utime(changed, ns=(time.time_ns(), time.time_ns() + 1))
    after = etags()

    assert {path for path in after if after[path] != before[path]} == {str(changed)}


def test_a_folder_named_like_audio_is_searched_not_listed(folder):
    (folder / "take.wav").mkdir()
    (folder / "take.wav" / "1.wav").write_bytes(b"1")

    paths = [one.path for one in list_audio(str(folder))]
    assert str(folder / "take.wav" / "1.wav") in paths
    assert str(folder / "take.wav") not in paths


def test_a_broken_link_is_listed_so_that_it_gets_its_row(folder):
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")

    (broken,) = [one for one in list_audio(str(folder)) if one.path.endswith("gone.wav")]
    assert (broken.size, broken.etag) == (0, "")


def test_a_folder_without_audio(folder):
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("a")

    with pytest.raises(DataError, match=r"no audio below .*texts: 1 files \(1 \.txt\)"):
        list_audio(str(folder / "texts"))


def test_an_empty_folder(tmp_path):
    with pytest.raises(DataError, match=f"no audio below {tmp_path}"):
        list_audio(str(tmp_path))


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"no file or folder .*nowhere"):
        list_audio(str(tmp_path / "nowhere"))


def test_an_unknown_protocol():
    with pytest.raises(DataError, match="gopher://"):
        list_audio("gopher://host/sounds")


def test_a_prefix_is_searched_like_a_folder(bucket):
    found = list_audio("s3://sounds/in")

    assert [one.path for one in found] == sorted(f"s3://sounds/in/{name}" for name in NAMES)
    assert [one.size for one in found] == [
        len(one.path.removeprefix("s3://sounds/in/").encode()) for one in found
    ]
    assert list_audio("s3://sounds/in/") == found
    assert len({one.etag for one in found}) == len(found)


def test_an_object_is_accepted_whatever_its_name(bucket):
    assert [one.path for one in list_audio("s3://sounds/in/notes.txt")] == ["s3://sounds/in/notes.txt"]


def test_a_whole_bucket(bucket):
    assert len(list_audio("s3://sounds")) == len(NAMES) + 1


def test_the_identity_of_an_object_is_its_etag(bucket):
    bucket.pipe_file("sounds/etag/a.wav", b"one")
    before = list_audio("s3://sounds/etag")
    assert '"' not in before[0].etag

    bucket.pipe_file("sounds/etag/a.wav", b"two")
    assert list_audio("s3://sounds/etag")[0].etag != before[0].etag


def test_a_prefix_without_audio(bucket):
    with pytest.raises(DataError, match="no audio below s3://sounds/quiet"):
        list_audio("s3://sounds/quiet")


@pytest.mark.parametrize("root", ["s3://sounds/nothing", "s3://no-such-bucket/x"])
def test_nothing_at_a_prefix(bucket, root):
    with pytest.raises(DataError, match=root):
        list_audio(root)


VIDEO_AND_RARE = ["a.mkv", "b.m4v", "c.weba", "d.mpga", "e.mp2", "f.spx", "g.AVI", "h.awb", "i.3g2", "j.ogv"]


def test_no_kind_of_audio_or_video_is_left_out(tmp_path):
    for name in VIDEO_AND_RARE:
        (tmp_path / name).write_bytes(b"x")
    left_out = Counter()

    found = list_audio(str(tmp_path), left_out=left_out)

    assert [Path(one.path).name for one in found] == VIDEO_AND_RARE
    assert not left_out


HEADS = {
    "wav": b"RIFF\x00\x00\x00\x00WAVEfmt ",
    "flac": b"fLaC\x00\x00\x00\x22",
    "ogg": b"OggS\x00\x02",
    "mp3": b"\xff\xfb\x90\x64",
    "tagged": b"ID3\x04\x00\x00",
    "mp4": b"\x00\x00\x00\x20ftypM4A ",
    "webm": b"\x1a\x45\xdf\xa3",
    "aiff": b"FORM\x00\x00\x00\x00AIFF",
    "caf": b"caff\x00\x01",
}
OTHERS = {"text": b"Notes about the clips", "json": b'{"a": 1}', "png": b"\x89PNG\r\n\x1a\n", "nothing": b""}


def fill(put):
    """Files without extension, of an unknown one, and a few that are left out by theirs."""
    for name, head in {**HEADS, **OTHERS}.items():
        put(name, head)
        put(f"{name}.bin", head)
    put("notes.txt", HEADS["wav"])
    put("cover.jpg", b"\xff\xd8\xff")


def test_content_decides_where_the_name_does_not_and_the_rest_is_counted(tmp_path):
    fill(lambda name, head: (tmp_path / name).write_bytes(head))
    left_out = Counter()

    found = list_audio(str(tmp_path), left_out=left_out)

    names = {Path(one.path).name for one in found}
    assert names == {*HEADS, *(f"{name}.bin" for name in HEADS)}
    assert left_out == {"": len(OTHERS), ".bin": len(OTHERS), ".txt": 1, ".jpg": 1}
    assert format_left_out(left_out) == "4 without extension, 4 .bin, 1 .jpg, 1 .txt"


def test_content_decides_in_a_bucket_too(bucket):
    fill(lambda name, head: bucket.pipe_file(f"sounds/mixed/{name}", head))
    left_out = Counter()

    found = list_audio("s3://sounds/mixed", left_out=left_out)

    assert len(found) == 2 * len(HEADS)
    assert left_out == {"": len(OTHERS), ".bin": len(OTHERS), ".txt": 1, ".jpg": 1}


def test_extensions_without_end_are_counted_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(audio_listing, "MAX_EXTENSIONS", 3)
    for number in range(8):
        (tmp_path / f"rec.{number:09d}").write_bytes(b"x" * 20)
    (tmp_path / "a.wav").write_bytes(b"x")
    left_out = Counter()
    list_audio(str(tmp_path), left_out=left_out)

    assert (len(left_out), left_out.total(), left_out[audio_listing.FURTHER_EXTENSIONS]) == (4, 8, 5)


def test_no_more_first_bytes_are_read_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(audio_listing, "MAX_HEADS", 3)
    for number in range(5):
        (tmp_path / f"{number}.bin").write_bytes(HEADS["wav"])
    left_out = Counter()

    assert len(list_audio(str(tmp_path), left_out=left_out)) == 3
    assert left_out == {".bin": 2}


def test_a_name_that_is_not_utf8_is_found_again_by_its_text(tmp_path):
    raw = [b"caf\xe9.wav", rb"caf\xe9.wav", b"caf\xc3\xa9.wav", rb"a\x5cxe9.wav", b"\xff\xfe.wav"]
    for name in raw:
        (tmp_path / os.fsdecode(name)).write_bytes(name)

    found = list_audio(str(tmp_path))

    assert len({one.path for one in found}) == len(raw)
    for one in found:
        one.path.encode()
        content = Path(audio_listing.local_path(one.path)).read_bytes()
        assert content in raw
        raw.remove(content)
    assert all(one.size and one.etag for one in found)
