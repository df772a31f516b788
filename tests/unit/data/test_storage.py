"""Parquet and models live in local folders and s3:// prefixes alike."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from mats_ray.data.storage import (
    UNFINISHED,
    check_finished,
    exists,
    locate,
    parquet_files,
    storage_environment,
    upload,
    use_storage_environment,
)
from mats_ray.errors import DataError
from tests.s3 import s3_server


@pytest.fixture(scope="module")
def bucket():
    with s3_server("store"):
        yield "s3://store"


@pytest.fixture(params=["local", "s3"])
def base(request, tmp_path):
    """A place of its own: a folder, or a prefix of a bucket."""
    if request.param == "local":
        return str(tmp_path / "place")
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


def put(path, *, text=None):
    filesystem, inner = locate(path)
    filesystem.create_dir(inner.rsplit("/", 1)[0], recursive=True)
    if text is None:
        pq.write_table(pa.table({"a": [1]}), inner, filesystem=filesystem)
    else:
        with filesystem.open_output_stream(inner) as sink:
            sink.write(text.encode())


def read(path):
    filesystem, inner = locate(path)
    with filesystem.open_input_file(inner) as source:
        return source.read().decode()


def test_files_and_folders_are_there_or_not(base):
    put(f"{base}/folder/a.txt", text="a")

    assert exists(f"{base}/folder/a.txt")
    assert exists(f"{base}/folder")
    assert not exists(f"{base}/folder/b.txt")
    assert not exists(f"{base}/nowhere")


def test_all_parquet_below_a_folder_is_found_in_one_order(base):
    for name in ("b.parquet", "a/deep/c.parquet", "a.parquet"):
        put(f"{base}/data/{name}")
    put(f"{base}/data/part-0.parquet.pending")
    put(f"{base}/data/notes.txt", text="no rows")
    put(f"{base}/datasets/other.parquet")

    filesystem, found = parquet_files(f"{base}/data")

    inner = locate(f"{base}/data")[1]
    assert found == [f"{inner}/{name}" for name in ("a.parquet", "a/deep/c.parquet", "b.parquet")]
    assert pq.read_table(found[1], filesystem=filesystem).num_rows == 1
    assert parquet_files(f"{base}/data/")[1] == found


def test_one_file_is_taken_whatever_its_name(base):
    put(f"{base}/rows.pq")

    assert parquet_files(f"{base}/rows.pq")[1] == [locate(f"{base}/rows.pq")[1]]


def test_nothing_to_read_is_named(base):
    put(f"{base}/texts/a.txt", text="a")

    for path in (f"{base}/nowhere", f"{base}/texts"):
        with pytest.raises(DataError, match=f"^no Parquet files at {path}$"):
            parquet_files(path)


def test_a_folder_is_copied_and_replaces_what_was_there(base, tmp_path):
    folder = tmp_path / "model"
    (folder / "llm").mkdir(parents=True)
    (folder / "config.json").write_text("one")
    (folder / "llm" / "weights").write_text("w")

    upload(folder, f"{base}/models/m")
    (folder / "config.json").write_text("two")
    upload(folder, f"{base}/models/m")

    assert read(f"{base}/models/m/config.json") == "two"
    assert read(f"{base}/models/m/llm/weights") == "w"


def test_a_path_is_absolute_and_home_is_home(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    assert locate("out/x") == (fs.LocalFileSystem(), str(tmp_path / "out" / "x"))
    assert locate("~/x")[1] == str(tmp_path / "home" / "x")
    assert locate(f"file://{tmp_path}/x")[1] == str(tmp_path / "x")


@pytest.mark.parametrize("path", ["gopher://host/x", "://x"])
def test_an_unknown_protocol_is_named(path):
    with pytest.raises(DataError, match=f"^{path}: no such storage: "):
        locate(path)


def test_a_place_that_cannot_be_written_is_named(bucket, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a").touch()

    for place in (str(tmp_path / "file" / "x"), "s3://no-such-bucket/x"):
        with pytest.raises(DataError, match=f"^{place} cannot be written: "):
            upload(Path(tmp_path / "model"), place)


def test_what_one_process_knows_of_s3_another_can_take_over(monkeypatch):
    for name in ("AWS_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://here:1")
    known = storage_environment()
    assert known["AWS_ENDPOINT_URL"] == "http://here:1"
    assert "AWS_REGION" not in known

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://there:2")
    use_storage_environment(known)

    assert storage_environment() == known


def test_a_folder_whose_rows_are_not_all_there_is_refused(tmp_path):
    (tmp_path / UNFINISHED).write_text("mats embed\n")

    with pytest.raises(DataError, match="is unfinished: `mats embed` is at work there or was killed"):
        check_finished(str(tmp_path))
    (tmp_path / UNFINISHED).unlink()
    check_finished(str(tmp_path))
