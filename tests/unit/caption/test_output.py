"""Parts are there wholly or not at all, and nothing foreign is touched."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mats_ray.caption import output
from mats_ray.caption.output import PartStore, PartWriter
from mats_ray.caption.rows import SCHEMA
from mats_ray.errors import DataError
from tests.s3 import s3_server


def table(*paths):
    blank = dict.fromkeys(SCHEMA.names) | dict.fromkeys(
        ["etag", "status", "task", "prompt", "model_id", "decoding"], "x"
    )
    blank |= {"segment": 0, "is_last_segment": True}
    return pa.Table.from_pylist([blank | {"path": path} for path in paths], schema=SCHEMA)


@pytest.fixture(scope="module")
def bucket():
    with s3_server("rows"):
        yield "s3://rows"


@pytest.fixture(params=["local", "s3"])
def out(request, tmp_path):
    if request.param == "local":
        return str(tmp_path / "deep" / "out")
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}/out"


def test_what_is_written_is_read(out):
    store = PartStore(out)
    assert store.names() == []

    store.write("part-b.parquet", table("b1", "b2"))
    store.write("part-a.parquet", table("a"))

    again = PartStore(out)
    assert again.names() == ["part-a.parquet", "part-b.parquet"]
    assert again.read("part-b.parquet") == table("b1", "b2")


def test_a_part_is_replaced_or_removed(out):
    store = PartStore(out)
    store.write("part.parquet", table("a", "b"))
    store.write("part.parquet", table("b"))
    assert store.read("part.parquet") == table("b")

    store.write("part.parquet", table("a", "b", "c"))
    store.keep_rows("part.parquet", np.array([True, False, True]))
    assert store.read("part.parquet") == table("a", "c")

    store.keep_rows("part.parquet", np.array([False, False]))
    assert store.names() == []


def test_rows_wait_for_a_part(out, monkeypatch):
    store = PartStore(out)
    monkeypatch.setattr(output, "FIRST_FLUSH_SECONDS", 1000)
    with PartWriter(store) as writer:
        writer.add(table("a"))
        writer.add(table("b"))
        assert store.names() == []
        writer.flush()
        assert len(store.names()) == 1
        monkeypatch.setattr(output, "FIRST_FLUSH_SECONDS", 0)
        writer.add(table("c"))
        assert len(store.names()) == 2
        writer.add(table())

    assert [store.read(name).column("path").to_pylist() for name in store.names()] == [["a", "b"], ["c"]]


def test_an_error_does_not_lose_rows_that_wait(out):
    store = PartStore(out)

    def interrupted():
        with PartWriter(store) as writer:
            writer.add(table("a"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(store.names()) == 1


def test_two_runs_never_share_a_name(out):
    store = PartStore(out)
    for _ in range(3):
        with PartWriter(store) as writer:
            writer.add(table("a"))

    assert len(store.names()) == 3


def test_a_writer_killed_half_way_leaves_no_part(tmp_path):
    (tmp_path / ".part-1.parquet.pending").write_bytes(b"PAR1 half a file")

    assert PartStore(str(tmp_path)).names() == []
    assert not list(tmp_path.iterdir())


def test_readers_of_the_whole_folder_see_the_rows(tmp_path):
    store = PartStore(str(tmp_path))
    store.write("part-1.parquet", table("a"))
    store.write("part-2.parquet", table("b"))

    assert sorted(pq.read_table(tmp_path).column("path").to_pylist()) == ["a", "b"]


def test_parquet_of_another_kind_is_refused(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "triplets.parquet")

    with pytest.raises(DataError, match=r"triplets\.parquet holds other rows than this job's"):
        PartStore(str(tmp_path)).read("triplets.parquet")


def test_a_spoiled_part_is_named(tmp_path):
    (tmp_path / "part-1.parquet").write_bytes(b"PAR1 spoiled PAR1")

    with pytest.raises(DataError, match=r"part-1\.parquet cannot be read"):
        PartStore(str(tmp_path)).read("part-1.parquet")


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "out").write_text("")

    with pytest.raises(DataError, match=r"/out cannot be written: File exists"):
        PartStore(str(tmp_path / "out"))


def test_a_bucket_that_is_not_there(bucket):
    store = PartStore("s3://no-such-bucket/out")

    with pytest.raises(DataError, match="s3://no-such-bucket/out"):
        store.write("part.parquet", table("a"))
