"""Opening annotation files: bytes are counted, companions demanded by role, names listed."""

import pytest

from mats_ray.data.annotations.reader import AnnotationFile, file_names
from mats_ray.errors import DataError
from tests.s3 import s3_server
from tests.unit.data.sources.reading import write


def test_bytes_read_are_counted_from_the_last_opening(tmp_path):
    file = AnnotationFile(str(write(tmp_path, "a.txt", "é\nb\n")), "train")

    assert list(file.lines()) == ["é", "b"]
    assert list(file.lines()) == ["é", "b"]
    assert file.bytes_read == 5
    assert file.name == "a.txt"


def test_the_error_of_a_missing_companion_names_its_key():
    file = AnnotationFile("x.csv", "train", {"names": ("n.csv",)})

    assert file.require("names", "names") == ("n.csv",)
    with pytest.raises(
        DataError, match=r"^x\.csv needs a blacklist: name it in companions: \{blacklist: PATH\}$"
    ):
        file.require("blacklist", "a blacklist")


def test_names_come_sorted_from_a_folder_or_in_order_from_a_list(tmp_path):
    for name in ("b.wav", "sub/a.wav"):
        write(tmp_path, f"audio/{name}", b"")

    assert list(file_names(str(tmp_path / "audio"))) == ["b.wav", "sub/a.wav"]
    assert list(file_names(str(write(tmp_path, "n.txt", "z.wav\n\na.wav\n")))) == ["z.wav", "a.wav"]
    with pytest.raises(DataError, match="nothing at"):
        list(file_names(str(tmp_path / "none")))


def test_files_in_a_bucket_are_read_alike():
    with s3_server("raw") as bucket:
        bucket.pipe("raw/set/a.csv", b"x\ny\n")

        assert list(AnnotationFile("s3://raw/set/a.csv", "train").lines()) == ["x", "y"]
        assert list(file_names("s3://raw/set")) == ["a.csv"]
