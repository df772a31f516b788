"""Files below a path, in local folders and s3:// prefixes alike."""

import os

import pytest

from mats_ray.errors import StorageError
from mats_ray.storage import exists, list_files, listing, locate, retries, stat, write_bytes

NAMES = ["a", "b # 1%20.wav", "deep/c?d", "deep/er/é", "deeper/e"]


def names_of(path, **how):
    return sorted(one.name for one in list_files(path, **how))


def fill(base):
    for name in NAMES:
        write_bytes(f"{base}/{name}", name.encode())
    return base


def test_files_and_folders_are_there_or_not(base):
    fill(base)

    assert exists(f"{base}/a")
    assert exists(f"{base}/deep")
    assert not exists(f"{base}/dee")
    assert not exists(f"{base}/nowhere")


def test_all_files_below_a_folder(base):
    fill(base)

    assert names_of(base) == names_of(f"{base}/") == sorted(NAMES)
    assert names_of(f"{base}/deep") == ["c?d", "er/é"]
    assert names_of(base, recursive=False) == ["a", "b # 1%20.wav"]
    assert {one.path for one in list_files(base)} == {f"{base}/{name}" for name in NAMES}
    assert {one.size for one in list_files(base)} == {len(name.encode()) for name in NAMES}


def test_one_file_is_itself(base):
    fill(base)
    (listed,) = list_files(f"{base}/deep/c?d")

    assert (listed.path, listed.name, listed.size) == (f"{base}/deep/c?d", "c?d", 8)
    assert listed.etag == stat(f"{base}/deep/c?d").etag


def test_nothing_is_there(base):
    assert names_of(f"{base}/nowhere") == []
    assert stat(f"{base}/nowhere") is None


def test_a_folder_is_no_file(base):
    assert stat(fill(base)) is None


def test_the_identity_follows_the_content(base):
    write_bytes(f"{base}/a", b"one")
    before = stat(f"{base}/a")
    assert stat(f"{base}/a") == before

    write_bytes(f"{base}/a", b"two")

    assert stat(f"{base}/a").size == before.size
    assert stat(f"{base}/a").etag != before.etag


def test_links_to_files_are_listed_and_broken_ones_not(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "a")
    (tmp_path / "folder" / "broken").symlink_to(tmp_path / "b")
    (tmp_path / "folder" / "up").symlink_to(tmp_path)

    assert names_of(str(tmp_path / "folder")) == ["link"]


def test_a_folder_that_cannot_be_listed_is_no_empty_folder(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)

    with pytest.raises(StorageError, match=f"^{tmp_path} cannot be listed: Permission denied$"):
        list(list_files(str(tmp_path)))


def test_a_whole_bucket(bucket):
    locate(bucket)[0].mkdir("small")
    fill("s3://small")

    assert names_of("s3://small") == names_of("s3://small/") == sorted(NAMES)
    assert stat("s3://small") is None


def test_pages_are_put_together_and_requested_again_alone(bucket, monkeypatch):
    expected, tokens, page = names_of(fill(f"{bucket}/pages")), [], listing._page

    def small_page(files, where, more):
        tokens.append(more)
        if len(tokens) == 2:
            raise OSError("SlowDown")
        return page(files, where | {"MaxKeys": 2}, more)

    monkeypatch.setattr(listing, "_page", small_page)
    monkeypatch.setattr(retries.time, "sleep", lambda _: None)

    assert names_of(f"{bucket}/pages") == expected
    assert tokens[1] == tokens[2]
    assert len(set(tokens)) == len(tokens) - 1 == 3  # five objects by two


def test_a_listing_that_breaks_off_is_no_shorter_listing(bucket, monkeypatch):
    page = listing._page

    def break_off(files, where, more):
        if more:
            raise OSError("SlowDown")
        return page(files, where | {"MaxKeys": 2}, more)

    fill(f"{bucket}/pages")
    monkeypatch.setattr(listing, "_page", break_off)
    monkeypatch.setattr(retries.time, "sleep", lambda _: None)

    with pytest.raises(StorageError, match="s3://store/pages cannot be listed: OSError: SlowDown"):
        names_of(f"{bucket}/pages")
