"""A manifest names files and, optionally, a question for each."""

import csv
import datetime
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mats_ray.data import manifest
from mats_ray.data.audio_listing import audio_objects
from mats_ray.data.manifest import ManifestRow, is_manifest
from mats_ray.errors import DataError
from tests.s3 import s3_server

ROWS = [
    {"path": "clips/b, 1 # ü.wav", "question": 'Is "it" a dog,\nor rain?'},
    {"path": "clips/a.wav", "question": ""},
    {"path": "clips/b, 1 # ü.wav", "question": "12"},
    {"path": "clips/gone.wav", "question": "NA"},
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "clips").mkdir()
    for name in ("a.wav", "b, 1 # ü.wav"):
        (tmp_path / "clips" / name).write_bytes(name.encode())
    return tmp_path


def read_manifest(path):
    """Read a manifest of one block."""
    (block,) = manifest.read_manifest(path)
    return list(audio_objects(block.files)), block.rows


def questions_of(rows):
    return {path: [row.question for row in own] for path, own in rows.items()}


def write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows).append_column("more", [list(range(len(rows)))]), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return str(path)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_files_once_each_with_their_questions(folder, suffix):
    objects, rows = read_manifest(write(folder / f"list.{suffix}", ROWS))

    a, b, gone = (str(folder / "clips" / name) for name in ("a.wav", "b, 1 # ü.wav", "gone.wav"))
    assert [(one.path, one.size, bool(one.etag)) for one in objects] == [
        (a, 5, True),
        (b, len("b, 1 # ü.wav".encode()), True),
        (gone, 0, False),
    ]
    assert questions_of(rows) == {a: [""], b: ['Is "it" a dog,\nor rain?', "12"], gone: ["NA"]}
    assert [row.path for row in rows[b]] == 2 * ["clips/b, 1 # ü.wav"]


def test_a_column_of_questions_is_not_needed(folder):
    path = str(folder / "clips/a.wav")

    objects, rows = read_manifest(write(folder / "list.csv", [{"path": path}]))

    assert ([one.path for one in objects], rows) == ([path], {path: [ManifestRow(path, "", None)]})


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [("csv", {"speaker": "Ä", "take": "3"}), ("jsonl", {"speaker": "Ä", "take": 3}), ("parquet", None)],
)
def test_other_columns_are_kept_as_json_with_their_types(folder, suffix, expected):
    rows = [{" Path": "clips/a.wav", "speaker": "Ä", "take": 3}]

    ((row,),) = read_manifest(write(folder / f"list.{suffix}", rows))[1].values()

    assert json.loads(row.columns) == (expected or {"speaker": "Ä", "take": 3, "more": 0})


def test_values_that_json_has_no_type_for_are_texts_or_null(folder):
    at = datetime.datetime(2026, 11, 29, tzinfo=datetime.UTC)
    table = pa.table({"path": ["clips/a.wav"], "at": [at], "loudness": [float("nan")], "tags": [["a", "b"]]})
    pq.write_table(table, folder / "list.parquet")

    ((row,),) = read_manifest(str(folder / "list.parquet"))[1].values()

    assert json.loads(row.columns) == {"at": str(at), "loudness": None, "tags": ["a", "b"]}


def test_nested_values_stay_as_they_are_written(folder):
    other = {
        "meta": {"a": 1, "of": [{"b": [2]}]},
        "loud": float("inf"),
        "all": [1.5, float("nan"), {"c": float("-inf")}],
    }
    (folder / "list.jsonl").write_text(json.dumps({"path": "clips/a.wav", **other}))

    ((row,),) = read_manifest(str(folder / "list.jsonl"))[1].values()

    expected = {"meta": {"a": 1, "of": [{"b": [2]}]}, "loud": None, "all": [1.5, None, {"c": None}]}
    assert json.loads(row.columns, parse_constant=pytest.fail) == expected


def test_a_date_that_python_cannot_hold_is_one_line(folder):
    days = pa.array([20_000, 4_000_000], pa.date32())
    pq.write_table(pa.table({"path": ["clips/a.wav"] * 2, "day": days}), folder / "list.parquet")

    with pytest.raises(DataError, match=r"^\S*list\.parquet: row 2, column 'day': .*out of range$"):
        read_manifest(str(folder / "list.parquet"))


def test_a_map_of_parquet_has_no_number_that_json_has_not(folder):
    peaks = pa.array([[("left", float("nan")), ("right", 0.5)]], pa.map_(pa.string(), pa.float64()))
    pq.write_table(pa.table({"path": ["clips/a.wav"], "peaks": peaks}), folder / "list.parquet")

    ((row,),) = read_manifest(str(folder / "list.parquet"))[1].values()

    found = json.loads(row.columns, parse_constant=pytest.fail)
    assert found == {"peaks": [["left", None], ["right", 0.5]]}


@pytest.mark.parametrize("depth", [100, 600, 900, 985, 100_000])
def test_a_deeply_nested_cell_is_kept_or_an_error_of_one_line(folder, depth):
    cell = f"{'[' * depth}1e999{']' * depth}"
    (folder / "list.jsonl").write_text(f'{{"path": "clips/a.wav", "meta": {cell}}}')

    try:
        ((row,),) = read_manifest(str(folder / "list.jsonl"))[1].values()
    except DataError as error:
        assert depth > 100 and len(str(error).splitlines()) == 1  # noqa: PT017, PT018
    else:
        assert row.columns == f'{{"meta": {cell.replace("1e999", "null")}}}'


def test_manifests_in_buckets_name_their_neighbours_and_others(folder):
    with s3_server("sounds") as files:
        files.pipe_file("sounds/in/a.wav", b"12345")
        rows = [{"path": "a.wav"}, {"path": "s3://sounds/in/none.wav"}, {"path": str(folder / "clips/a.wav")}]
        files.pipe_file("sounds/in/list.jsonl", "\n".join(map(json.dumps, rows)).encode())

        objects, _ = read_manifest("s3://sounds/in/list.jsonl")

    assert [(one.path, one.size, bool(one.etag)) for one in objects] == [
        (str(folder / "clips/a.wav"), 5, True),
        ("s3://sounds/in/a.wav", 5, True),
        ("s3://sounds/in/none.wav", 0, False),
    ]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("list.csv", "file,question\na.wav,Dog?\n", "has no column 'path', its columns are file, question"),
        (
            "list.csv",
            ",".join(f"c{n}" for n in range(500)) + "\n",
            "c18, c19 and 480 more",
        ),
        ("list.csv", "", "cannot be read"),
        ("list.csv", "path\n", "names no files"),
        ("list.parquet", "PAR1", "cannot be read"),
        ("list.jsonl", '{"path": "a.wav"}\n{"path": ""}', "row 2 names no file"),
        (
            "list.jsonl",
            '{"path": ["a.wav", "b.wav"]}',
            "row 1 has a list of 2 in its column 'path': a row is about one clip; give each clip a row",
        ),
        ("list.jsonl", '{"path": "a.wav"}\n{"path"', "line 2: no JSON"),
        ("list.jsonl", '["a.wav"]', "line 1: no JSON object"),
        ("list.jsonl", '{"path": "a.wav", "question": 3}', "the question of row 1 is no text: 3"),
    ],
)
def test_a_bad_manifest_is_named(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)

    with pytest.raises(DataError) as caught:
        read_manifest(str(tmp_path / name))
    assert expected in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_a_manifest_that_is_not_there():
    with pytest.raises(DataError, match=r"no manifest /nowhere/list\.csv"):
        read_manifest("/nowhere/list.csv")
    assert is_manifest("s3://a/b.JSONL")
    assert not is_manifest("/clips")


@pytest.mark.parametrize("header", [" question", "Question", "QUESTION ", "\tquestion"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_column_is_found_whatever_its_case_and_the_spaces_around_it(folder, suffix, header):
    rows = [{"Path ": "clips/a.wav", header: "Is it loud?"}]

    _, found = read_manifest(write(folder / f"list.{suffix}", rows))

    assert questions_of(found) == {str(folder / "clips/a.wav"): ["Is it loud?"]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.csv", "path,path\na.wav,b.wav\n", "has the column 'path' twice: 'path', 'path'"),
        ("list.csv", "path,speaker,speaker\na.wav,b,c\n", "has the column 'speaker' twice"),
        ("list.csv", "path,question,Question\na.wav,b,c\n", "has the column 'question' twice"),
        ("list.csv", "path,questions\na.wav,b\n", "the column 'questions' is not read, is 'question' meant?"),
        ("list.jsonl", '{"path": "a.wav", "path": "b.wav"}\n', "line 1 has the column 'path' twice"),
        ("list.jsonl", '{"path": "a\\u0000.wav"}\n', r"the path of row 1 holds NUL"),
        ("list.jsonl", '{"path": "a\\ud83d.wav"}\n', r"the path of row 1 holds half a surrogate pair"),
        (
            "list.jsonl",
            '{"path": "a.wav"}\n{"path": "a.wav", "question": "Is it \\ud83d"}\n',
            r"the question of row 2 holds half a surrogate pair, .*: 'Is it \\ud83d'",
        ),
        (
            "list.jsonl",
            '{"path": "a.wav", "note": "\\ud83d"}\n',
            r"another column of row 1 holds half a surrogate",
        ),
        ("list.jsonl", "[" * 100_000, "line 1: no JSON"),
        ("list.csv", 'path,note\na.wav,"b\nc",d\n', "cannot be read: .*Expected 2 columns, got 3"),
    ],
)
def test_a_trap_in_a_manifest_is_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)

    with pytest.raises(DataError, match=message) as caught:
        read_manifest(str(tmp_path / name))

    assert len(str(caught.value).splitlines()) == 1
    str(caught.value).encode()


def test_rows_come_in_blocks_and_a_path_is_known_again(folder, monkeypatch):
    monkeypatch.setattr(manifest, "FIRST_BLOCK", 2)
    a, b = (str(folder / "clips" / name) for name in ("a.wav", "b, 1 # ü.wav"))
    rows = [(a, ""), (b, "Dog?"), (a, "Rain?"), (b, "Dog?"), (a, ""), (b, ""), (b, "Dog?")]
    listed = write(folder / "list.jsonl", [{"path": path, "question": text} for path, text in rows])

    blocks = list(manifest.read_manifest(listed))

    found = [(questions_of(block.rows), block.repeated) for block in blocks]
    assert found == [({a: [""], b: ["Dog?"]}, set()), ({a: ["Rain?"], b: [""]}, {a, b})]
    assert [block.files["path"].to_pylist() for block in blocks] == [[a, b]] * 2
