"""Files appear whole or not at all, in local folders and s3:// prefixes alike."""

import os
import shutil
from pathlib import Path

import pytest

from mats_ray.errors import StorageError
from mats_ray.storage import (
    clear_pending,
    exists,
    list_files,
    make_folder,
    open_output,
    read_bytes,
    remove,
    remove_folder,
    retries,
    upload,
    write_bytes,
    write_file,
    writing,
)


def names_of(path):
    return sorted(one.name for one in list_files(path))


def test_what_is_written_replaces_what_was_there(base, tmp_path):
    (tmp_path / "source").write_bytes(b"three")
    write_bytes(f"{base}/a", b"one")
    assert read_bytes(f"{base}/a") == b"one"

    write_bytes(f"{base}/a", b"two")
    assert read_bytes(f"{base}/a") == b"two"

    write_file(f"{base}/a", tmp_path / "source")
    assert read_bytes(f"{base}/a") == b"three"
    assert names_of(base) == ["a"]


def test_a_file_written_piece_by_piece_appears_at_the_end(base):
    write_bytes(f"{base}/a", b"before")
    with open_output(f"{base}/a") as sink:
        sink.write(b"one")
        sink.flush()
        assert read_bytes(f"{base}/a") == b"before"
        sink.write(b"two")

    assert read_bytes(f"{base}/a") == b"onetwo"
    assert names_of(base) == ["a"]


def test_a_file_whose_writer_fails_does_not_appear(base):
    def fail():
        with open_output(f"{base}/deep/a") as sink:
            sink.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert names_of(base) == []


def test_two_writers_of_one_file_do_not_mix(base):
    with open_output(f"{base}/a") as one, open_output(f"{base}/a") as two:
        one.write(b"1" * 10)
        two.write(b"2" * 5)

    assert read_bytes(f"{base}/a") == b"1" * 10


@pytest.mark.parametrize("kept", [0o644, 0o600])
def test_permissions_are_those_of_any_file(tmp_path, kept):
    before = os.umask(0o777 - kept - 0o111)
    try:
        write_bytes(f"{tmp_path}/a", b"")
    finally:
        os.umask(before)

    assert (tmp_path / "a").stat().st_mode & 0o777 == kept


def test_files_of_a_killed_writer_are_removed(tmp_path):
    with open_output(str(tmp_path / "a")):
        (pending,) = tmp_path.iterdir()
        shutil.copyfile(pending, pending.with_name(pending.name.replace("a", "b", 1)))

    clear_pending(str(tmp_path))

    assert names_of(str(tmp_path)) == ["a"]


def test_a_file_and_a_folder_are_removed(base):
    for name in ("a", "deep/b", "deep/er/c"):
        write_bytes(f"{base}/{name}", b"")

    remove(f"{base}/a")
    remove(f"{base}/a")
    remove_folder(f"{base}/deep")
    remove_folder(f"{base}/deep")

    assert names_of(base) == []
    assert not exists(f"{base}/deep")


def test_a_folder_is_copied_and_replaces_what_was_there(base, tmp_path):
    folder = tmp_path / "model"
    (folder / "llm").mkdir(parents=True)
    (folder / "config.json").write_text("one")
    (folder / "llm" / "weights").write_text("w")

    upload(folder, f"{base}/models/m")
    (folder / "config.json").write_text("two")
    upload(folder, f"{base}/models/m/")

    assert read_bytes(f"{base}/models/m/config.json") == b"two"
    assert names_of(f"{base}/models") == ["m/config.json", "m/llm/weights"]


def test_a_path_that_cannot_be_written_is_named(bucket, tmp_path):
    (tmp_path / "file").touch()
    reasons = {
        str(tmp_path / "file" / "x"): "(Not a directory|File exists)",
        "s3://gone/x": "no bucket of that name",
    }

    for place, reason in reasons.items():
        with pytest.raises(StorageError, match=f"^{place}/a cannot be written: {reason}$"):
            write_bytes(f"{place}/a", b"")
        with pytest.raises(StorageError, match=f"^{place}/a cannot be written: {reason}$"):
            write_file(f"{place}/a", Path(__file__))
    with pytest.raises(StorageError, match=r"cannot be written: (Not a directory|File exists)$"):
        make_folder(str(tmp_path / "file" / "x"))
    make_folder("s3://gone/x")  # a prefix needs no folder


def test_a_full_disk_is_retried_and_keeps_the_old_file(tmp_path, monkeypatch):
    write_bytes(str(tmp_path / "a"), b"before")
    left = [True] * 7

    def full(_):
        if left and left.pop():
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    monkeypatch.setattr(retries.time, "sleep", lambda _: None)

    with pytest.raises(StorageError, match=f"^{tmp_path}/a cannot be written: No space left on device$"):
        write_bytes(str(tmp_path / "a"), b"after")
    assert (names_of(str(tmp_path)), read_bytes(str(tmp_path / "a"))) == (["a"], b"before")

    write_bytes(str(tmp_path / "a"), b"after")
    assert (names_of(str(tmp_path)), read_bytes(str(tmp_path / "a"))) == (["a"], b"after")
