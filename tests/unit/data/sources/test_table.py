"""A table of one's own: columns by name, defaults for what a row lacks, and every record counted."""

import gzip
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mats_ray.config.data import TableColumns, TableDefaults
from mats_ray.data.annotations.reader import AnnotationFile, Rejected
from mats_ray.data.sources.table import TableReader
from mats_ray.errors import DataError
from mats_ray.tasks import Task
from tests.s3 import s3_server
from tests.unit.data.sources.reading import write

RECORDS = [
    {"caption": "A dog barks", "question": "", "answer": ""},
    {"caption": "Rain, falling", "question": "Is it raining?", "answer": "yes"},
]
EXPECTED = [("A dog barks", "", "", Task.CAPTION), ("Rain, falling", "Is it raining?", "yes", Task.QA)]


def read(path, columns=None, defaults=None):
    reader = TableReader(
        TableColumns.model_validate(columns or {}), TableDefaults.model_validate(defaults or {})
    )
    return list(reader(AnnotationFile(str(path), "train")))


def contents(rows):
    return [(row.text, row.question, row.answer, row.task) for row in rows]


def written(folder, extension):
    frame, path = pd.DataFrame(RECORDS), folder / f"mine{extension}"
    if extension == ".parquet":
        frame.astype({"answer": "category"}).to_parquet(path)
    elif extension == ".jsonl":
        path.write_text("".join(f"{json.dumps(record)}\n" for record in RECORDS))
    elif extension == ".csv.gz":
        path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    else:
        frame.to_csv(path, index=False, sep="\t" if extension == ".tsv" else ",")
    return path


@pytest.mark.parametrize("extension", [".csv", ".CSV", ".tsv", ".jsonl", ".parquet", ".csv.gz"])
def test_every_format_gives_the_same_rows(tmp_path, extension):
    rows = read(written(tmp_path, extension))

    assert contents(rows) == EXPECTED
    assert len({row.key for row in rows}) == 2


def test_a_bucket_is_read_like_a_disk(tmp_path):
    with s3_server("own") as files:
        for extension in (".csv", ".parquet"):
            files.put(str(written(tmp_path, extension)), f"own/mine{extension}")

            assert contents(read(f"s3://own/mine{extension}")) == EXPECTED


def test_columns_are_found_without_case_and_spaces_and_may_be_named(tmp_path):
    path = write(tmp_path, "a.csv", " CAPTION ,What it is,Licence\na cat meows,a cat,MIT\n")

    (row,) = read(path, {"answer": "what it is", "license": "Licence"}, {"instruction": "Name it."})

    assert contents([row]) == [("a cat meows", "Name it.", "a cat", Task.QA)]
    assert row.license == "MIT"


def test_a_row_has_the_defaults_for_what_it_lacks(tmp_path):
    path = write(
        tmp_path,
        "a.jsonl",
        '{"text": "a"}\n{"text": "b", "task": "caption", "license": "CC0", "split": "val"}\n',
    )

    first, second = read(path, defaults={"task": "music_caption", "license": "MIT"})

    assert (first.task, first.license, first.split) == (Task.MUSIC_CAPTION, "MIT", "")
    assert (second.task, second.license, second.split) == (Task.CAPTION, "CC0", "val")


@pytest.mark.parametrize(
    ("columns", "header", "message"),
    [
        ({}, "a;caption", "has no column 'text' or 'caption', its columns are a;caption; "),
        ({"text": "words"}, "caption,answer", "has no column 'words', its columns are caption, answer; "),
        ({"answer": "reply"}, "caption", "has no column 'reply'"),
        ({}, "caption,Caption", "has the column 'caption' twice"),
        ({}, "", "has no column 'text' or 'caption', its columns are "),
    ],
)
def test_a_header_that_does_not_fit_is_one_line(tmp_path, columns, header, message):
    with pytest.raises(DataError) as caught:
        read(write(tmp_path, "a.csv", f"{header}\nx,y\n"), columns)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"text": "a", "question": "Why?"}, "no answer"),
        ({"text": "a", "task": "qa"}, "no question"),
        ({"text": "a", "task": "poem"}, "task 'poem' is none of caption, "),
        ({"text": "a", "split": "dev"}, "split 'dev' is none of train, val, test"),
        ({"text": ["a"]}, "text is no text"),
        ([1], "no JSON object"),
    ],
)
def test_a_record_that_cannot_be_used_is_rejected_with_its_reason(tmp_path, record, reason):
    path = write(tmp_path, "a.jsonl", f'{{"text": "first"}}\n{json.dumps(record)}\n{{"text": "last"}}\n')

    first, rejected, last = read(path)

    assert (first.text, last.text) == ("first", "last")
    assert isinstance(rejected, Rejected)
    assert rejected.number == 2
    assert reason in rejected.reason


def test_words_for_no_value_are_no_values(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"caption": ["a", None, "b"], "question": [float("nan"), "nan", "None"]}).to_parquet(path)

    assert [(row.text, row.question) for row in read(path)] == [("a", ""), ("", ""), ("b", "")]


def test_texts_of_parquet_that_are_not_utf8_cost_their_row_alone(tmp_path):
    bad = pa.array([b"good", b"caf\xe9"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"caption": bad}), tmp_path / "a.parquet")

    assert [row.text for row in read(tmp_path / "a.parquet")] == ["good", "caf\udce9"]


@pytest.mark.parametrize("name", ["a.parquet", "a.xlsx"])
def test_a_file_of_another_kind_is_named(tmp_path, name):
    with pytest.raises(
        DataError, match=r"a\.(parquet is not a readable Parquet|xlsx is no table: its name ends)"
    ):
        read(write(tmp_path, name, b"PK\x03\x04"))
