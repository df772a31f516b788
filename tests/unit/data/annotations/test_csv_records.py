"""A broken record is rejected, and no other one."""

import pytest

from mats_ray.data.annotations.csv_records import MAX_RECORD_LINES, table_records
from mats_ray.data.annotations.reader import AnnotationFile, Rejected
from mats_ray.errors import DataError
from tests.unit.data.sources.reading import write


def records(path, **how):
    found = list(table_records(AnnotationFile(str(path), "train"), **how))
    good = [
        (number, list(cells.values()))
        for number, cells in (one for one in found if not isinstance(one, Rejected))
    ]
    return good, [(one.number, one.reason) for one in found if isinstance(one, Rejected)]


def test_an_unclosed_quote_costs_its_own_record(tmp_path):
    rows = [f"{number},fine" for number in range(200)]
    rows[3] = '3,"broken'
    rows[7] = '7,"on two\nlines"'

    good, bad = records(write(tmp_path, "a.csv", "id,text\n" + "\n".join(rows)), needed=("id",))

    assert bad == [(5, "broken quoting")]
    assert [cells[0] for _, cells in good] == [str(number) for number in range(200) if number != 3]
    assert good[6] == (9, ["7", "on two\nlines"])


def test_a_quote_that_is_never_closed_is_found_after_few_lines(tmp_path):
    rows = "\n".join(f"{number},x" for number in range(3 * MAX_RECORD_LINES))

    good, bad = records(write(tmp_path, "a.csv", f'id,text\n9,"never\n{rows}\n'), needed=("id",))

    assert (len(good), bad) == (3 * MAX_RECORD_LINES, [(2, "broken quoting")])


def test_characters_after_a_closing_quote_are_broken_quoting(tmp_path):
    good, bad = records(write(tmp_path, "a.csv", 'id,text\n1,"a" b\n2,c\n'), needed=("id",))

    assert good == [(3, ["2", "c"])]
    assert bad == [(2, "broken quoting")]


def test_too_many_or_too_few_columns_are_counted(tmp_path):
    good, bad = records(write(tmp_path, "a.csv", "id,text\n1,a,b\n2\n3,c\n"), needed=("id",))

    assert good == [(4, ["3", "c"])]
    assert bad == [(2, "3 columns instead of 2"), (3, "1 columns instead of 2")]


def test_bytes_that_are_not_utf8_are_rejected_or_read_in_the_sources_encoding(tmp_path):
    path = write(tmp_path, "a.csv", "id,text\n1,caf\xe9\n".encode("latin-1") + "2,café\n".encode())

    assert records(path, needed=("id",)) == ([(3, ["2", "café"])], [(2, "not UTF-8")])
    assert records(path, needed=("id",), encoding="latin-1")[0] == [(2, ["1", "café"]), (3, ["2", "café"])]


def test_a_byte_order_mark_empty_lines_and_crlf_are_no_content(tmp_path):
    path = write(tmp_path, "a.csv", b"\xef\xbb\xbfid,text\r\n\r\n1, a \r\n")

    assert records(path, needed=("id",)) == ([(3, ["1", "a"])], [])


def test_a_header_without_a_needed_column_stops_before_anything_is_lost(tmp_path):
    path = write(tmp_path, "a.csv", "id,Text\n1,a\n")

    with pytest.raises(DataError, match=r"a\.csv has no column text; its header is id, Text"):
        records(path, needed=("id", "text"))


def test_files_that_end_in_gz_are_decompressed(tmp_path):
    import gzip

    path = write(tmp_path, "a.csv.gz", gzip.compress(b"id,text\n1,a\n"))

    assert records(path, needed=("id",))[0] == [(2, ["1", "a"])]


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv cannot be read"):
        records(tmp_path / "none.csv")
