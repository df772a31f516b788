"""Parts of one size, without a moment in which rows are missing or there twice."""

import numpy as np
import pyarrow as pa
import pytest

from mats_ray.caption import output
from mats_ray.caption.output import PartStore
from mats_ray.caption.part_writer import PartWriter
from tests.unit.caption.parts import parts, paths_of, table


def test_rows_wait_for_a_part(out, monkeypatch):
    store = PartStore(out)
    monkeypatch.setattr(output, "FIRST_FLUSH_SECONDS", 1000)
    with PartWriter(store, part_rows=100) as writer:
        writer.add(table("b"))
        writer.add(table("a"))
        assert store.names() == []
        writer.flush()
        assert parts(store) == [["a", "b"]]
        writer.add(table())
        writer.add(table("c"))
        assert parts(store) == [["a", "b"]]

    assert parts(store) == [["a", "b", "c"]]


def test_a_part_grows_until_it_is_full(out, at_once):
    store, seen = PartStore(out), []
    with PartWriter(store, part_rows=3) as writer:
        for path in ("d", "a", "c", "b", "e"):
            writer.add(table(path))
            seen.append(parts(store))
        writer.add(table("f", "g", "h", "i", "j"))

    assert seen == [
        [["d"]],
        [["a", "d"]],
        [["a", "c", "d"]],
        [["a", "c", "d"], ["b"]],
        [["a", "c", "d"], ["b", "e"]],
    ]
    assert sorted(map(len, parts(store))) == [1, 3, 3, 3]
    assert sorted(paths_of(store)) == list("abcdefghij")


def test_rows_stay_in_their_part_when_more_come_than_it_holds(out, at_once):
    store, seen = PartStore(out), []
    writer = PartWriter(store, part_rows=3)
    with writer, pytest.MonkeyPatch.context() as patch:
        writer.add(table("x", "y"))
        write = store.write
        patch.setattr(store, "write", lambda *args: (write(*args), seen.append(sorted(paths_of(store)))))
        writer.add(table("a", "b"))

    assert seen == [["a", "x", "y"], ["a", "b", "x", "y"]]  # as a reader finds them after each write
    assert [sorted(part) for part in parts(store)] == [["a", "x", "y"], ["b"]]


def test_a_small_part_of_an_earlier_run_is_taken_up(out, at_once):
    store = PartStore(out)
    store.write("part-1.parquet", table("a", "b", "c"))
    store.write("part-2.parquet", table("m"))
    store.write("part-3.jsonl", table("x"))
    with PartWriter(PartStore(out), part_rows=3) as writer:
        writer.add(table("n"))

    assert parts(store) == [["a", "b", "c"], ["m", "n"], ["x"]]


def key(path):
    return path, "x", "x"


def test_rows_that_are_replaced_go_once_the_others_are_written(out, at_once):
    store = PartStore(out)
    store.write("part-1.parquet", table("a", "b", "c"))
    store.write("part-2.parquet", table("d"))
    writer = PartWriter(PartStore(out), part_rows=3)
    with writer, pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "FIRST_FLUSH_SECONDS", 1000)
        writer.add(table("e"), replaced={"part-1.parquet": [key("b")], "part-2.parquet": [key("d")]})
        assert parts(store) == [["a", "b", "c"], ["d"]]  # nothing goes before its replacement is there

    assert parts(store) == [["a", "c"], ["e"]]
    with PartWriter(PartStore(out), part_rows=3) as writer:
        writer.add(table("f"), replaced={"part-1.parquet": [key("a"), key("c")]})
    assert sorted(paths_of(store)) == ["e", "f"]


def test_an_error_does_not_lose_rows_that_wait(out):
    store = PartStore(out)

    def interrupted():
        with PartWriter(store, part_rows=1) as writer:
            writer.add(table("a"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(store.names()) == 1


def test_two_runs_never_share_a_name(out):
    store = PartStore(out)
    for _ in range(3):
        with PartWriter(store, part_rows=1) as writer:
            writer.add(table("a"))

    assert len(store.names()) == 3


def test_rows_are_removed_and_changed_by_their_places(out, at_once):
    store = PartStore(out)
    store.write("part-1.parquet", table("a", "b", "c"))
    writer = PartWriter(PartStore(out), part_rows=3)
    with writer:
        writer.add(table("e", "d"))
        writer.remove_rows("part-1.parquet", np.array([0, 2]))
        columns = pa.table({"listed_path": ["./b"], "manifest": ["{}"]})
        writer.set_rows("part-1.parquet", np.array([0]), columns)
        ((name, rows),) = [(one.part, one.row_N) for one in writer.find(pa.array(["e"]), ["path"])]
        writer.remove_rows(name, rows)

    assert sorted(parts(store)) == [["b"], ["d"]]
    assert store.read("part-1.parquet").select(["listed_path", "etag"]).to_pylist() == [
        {"listed_path": "./b", "etag": "x"}
    ]
