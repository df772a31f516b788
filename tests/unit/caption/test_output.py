"""Parts are there wholly or not at all, and nothing foreign is touched."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mats_ray.caption import output
from mats_ray.caption.output import PartStore
from mats_ray.caption.part_writer import PartWriter
from mats_ray.errors import DataError
from tests.unit.caption.parts import table


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

    store.remove("part.parquet")
    assert store.names() == []
    assert store.num_rows() == {}


def test_rows_are_found_by_their_paths_wherever_they_are(out, at_once, monkeypatch):
    monkeypatch.setattr(output, "ROWS_PER_GROUP", 2)
    store = PartStore(out, rows_per_group=2)
    store.write("part-1.parquet", table("a", "b", "c", "d", "e"))
    store.write("part-2.jsonl", table("x", "b"))
    store.write("part-3.parquet", table("y", "z"))

    def found(where, *paths):
        rows = where.find(pa.array(paths), ["path", "etag"])
        return [(one.part, one.row_N.tolist(), one.table["path"].to_pylist()) for one in rows]

    for one in (store, PartStore(out)):
        assert found(one, "b", "e", "q") == [
            ("part-1.parquet", [1, 4], ["b", "e"]),
            ("part-2.jsonl", [1], ["b"]),
        ]
        assert found(one, "q") == []
        assert (one.last_path("z"), one.last_path("f")) == ("z", None)
    writer = PartWriter(PartStore(out), part_rows=5)  # takes up part-3
    monkeypatch.setattr(output, "FIRST_FLUSH_SECONDS", 1000)
    writer.add(table("w", "b"))
    assert found(writer, "b", "z") == [
        ("part-1.parquet", [1], ["b"]),
        ("part-2.jsonl", [1], ["b"]),
        ("part-3.parquet", [0, 3], ["b", "z"]),
    ]


def test_only_the_ranges_that_can_hold_a_path_are_read(tmp_path, monkeypatch):
    store, read = PartStore(str(tmp_path), rows_per_group=10), []
    store.write("part-1.parquet", table(*(f"{n:03d}" for n in range(100))))
    store.write("part-2.parquet", table(*(f"{n:03d}" for n in range(100, 200))))
    groups = pq.ParquetFile.read_row_groups
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_groups",
        lambda self, rows, **more: read.append(rows) or groups(self, rows, **more),
    )

    list(store.find(pa.array(["015", "150", "155", "199"]), ["path"]))

    assert read == [[1], [5, 9]]


def test_a_part_that_another_process_replaced_is_named(tmp_path):
    store = PartStore(str(tmp_path), rows_per_group=1)
    store.write("part-1.parquet", table("a", "b", "c"))
    assert store.num_rows() == {"part-1.parquet": 3}
    PartStore(str(tmp_path), rows_per_group=9).write("part-1.parquet", table("a"))

    with pytest.raises(DataError, match=r"part-1\.parquet was changed by another process"):
        list(store.find(pa.array(["c"]), ["path"]))


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
