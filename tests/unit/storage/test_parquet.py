"""Folders of Parquet files, whole or unfinished."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mats_ray.errors import DataError, MissingError
from mats_ray.storage import (
    UNFINISHED,
    check_finished,
    open_input,
    open_output,
    parquet_files,
    reading_parquet,
    write_bytes,
)


def put(path):
    with open_output(path) as sink:
        pq.write_table(pa.table({"a": [1]}), sink)


def test_all_parquet_below_a_folder_is_found_in_one_order(base):
    for name in ("b.parquet", "a/deep/c.parquet", "a.parquet"):
        put(f"{base}/data/{name}")
    put(f"{base}/data/part-0.parquet.pending")
    write_bytes(f"{base}/data/notes.txt", b"no rows")
    put(f"{base}/datasets/other.parquet")

    found = parquet_files(f"{base}/data")

    assert [one.name for one in found] == ["a.parquet", "a/deep/c.parquet", "b.parquet"]
    assert pq.read_table(open_input(found[1].path)).num_rows == 1
    assert parquet_files(f"{base}/data/") == found


def test_one_file_is_accepted_whatever_its_name(base):
    put(f"{base}/rows.pq")

    assert [one.path for one in parquet_files(f"{base}/rows.pq")] == [f"{base}/rows.pq"]


def test_nothing_to_read_is_named(base):
    write_bytes(f"{base}/texts/a.txt", b"a")

    for path in (f"{base}/nowhere", f"{base}/texts"):
        with pytest.raises(DataError, match=f"^no Parquet files at {path}$"):
            parquet_files(path)


def test_a_folder_whose_rows_are_not_all_there_is_refused(base):
    put(f"{base}/a.parquet")
    write_bytes(f"{base}/{UNFINISHED}", b"mats embed\n")

    with pytest.raises(DataError, match="is unfinished: `mats embed` is at work there or was killed"):
        parquet_files(base)
    check_finished(f"{base}/a.parquet")


@pytest.mark.parametrize("part", ["footer", "rows"])
def test_damage_anywhere_in_a_file_is_one_line_with_its_name(tmp_path, part):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"row {number}" for number in range(10_000)]}), file)
    data = bytearray(file.read_bytes())
    place = slice(len(data) - 400, len(data)) if part == "footer" else slice(10, len(data) // 2)
    data[place] = b"\xa5" * len(data[place])
    file.write_bytes(data)

    with pytest.raises(DataError) as raised, reading_parquet(str(file)), open_input(str(file)) as source:
        pq.read_table(source)

    assert str(raised.value).startswith(f"{file} is not a readable Parquet file (cut off?): ")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_keeps_its_own_error(tmp_path):
    file = str(tmp_path / "none.parquet")

    with pytest.raises(MissingError), reading_parquet(file):
        open_input(file)
