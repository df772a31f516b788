"""A Lance table as output: commits, replaced rows, and the same promises as parts."""

import json

import pytest

pytest.importorskip("lance", reason="the extra lance is not installed")

import lance

from mats_ray.caption import output
from mats_ray.caption.job import CaptionJob
from mats_ray.caption.lance_output import TABLE, LanceStore
from mats_ray.config.caption import CaptionConfig
from mats_ray.errors import ConfigError, DataError
from mats_ray.storage import s3_options
from tests.s3 import s3_server
from tests.unit.caption.test_job import answer, files, model, run  # noqa: F401  (a fixture)


@pytest.fixture(scope="module")
def bucket():
    with s3_server("tables"):
        yield "s3://tables"


@pytest.fixture(params=["local", "s3"])
def out(request, tmp_path):
    if request.param == "local":
        return str(tmp_path / "out")
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


def table_at(out):
    return lance.dataset(f"{out}/{TABLE}", storage_options=s3_options() if "://" in out else None)


def rows_at(out):
    rows = table_at(out).to_table().to_pylist()
    return sorted(rows, key=lambda row: (row["path"], row["prompt"]))


def job_of_two(model, out):  # noqa: F811
    settings = CaptionConfig(format="lance", batch_size=1)
    return CaptionJob(settings, audio=files("a", "b"), out=out, model=model, questions=["Dog?"])


def test_a_job_fills_a_table_and_then_does_nothing(model, out):  # noqa: F811
    first, _ = run(model, out, files("a", "it's", 'x"'), format="lance")
    again, sent = run(model, out, files("a", "it's", 'x"', "é"), format="lance")
    last, nothing = run(model, out, files("a", "it's", 'x"', "é"), format="lance")

    assert (first.written, again.written, last.written) == (3, 1, 0)
    assert (sent, nothing) == ([("é", "Dog?")], [])
    assert [row["path"] for row in rows_at(out)] == [
        f"/clips/{name}.wav" for name in ("a", "it's", 'x"', "é")
    ]
    assert len(table_at(out).get_fragments()) == 1


def test_a_row_is_replaced_when_the_new_one_is_there(model, out, monkeypatch):  # noqa: F811
    run(model, out, files("a", "b"), error="read_failed", format="lance")
    monkeypatch.setattr(output, "FIRST_FLUSH_SECONDS", 0)
    job = job_of_two(model, out)

    with job:
        batches = job.batches()
        first = next(batches)
        assert [row["status"] for row in rows_at(out)] == ["error", "error"]
        answer(job, first)
        assert [row["status"] for row in rows_at(out)] == ["ok", "error"]
        for batch in batches:
            answer(job, batch)
    assert [row["status"] for row in rows_at(out)] == ["ok", "ok"]
    assert job.finish().errors == {}


def test_rows_that_are_there_twice_are_removed(model, out):  # noqa: F811
    run(model, out, files("a", "b"), format="lance")
    store = LanceStore(out)
    store.append(table_at(out).to_table(filter="path LIKE '%b.wav'"))
    assert len(rows_at(out)) == 3

    summary, sent = run(model, out, files("a", "b"), format="lance")

    assert (sent, summary.rows) == ([], 2)
    assert [row["path"] for row in rows_at(out)] == ["/clips/a.wav", "/clips/b.wav"]


def test_a_job_that_is_killed_keeps_what_it_committed(model, out, monkeypatch):  # noqa: F811
    monkeypatch.setattr(output, "FIRST_FLUSH_SECONDS", 0)
    job = job_of_two(model, out)
    job.__enter__()  # and never left
    answer(job, next(job.batches()))

    assert len(rows_at(out)) == 1
    assert run(model, out, files("a", "b"), format="lance")[1] == [("b", "Dog?")]


def test_columns_of_a_manifest_follow_it(model, out, tmp_path):  # noqa: F811
    listing = tmp_path / "list.jsonl"
    for name in "ab":
        (tmp_path / f"{name}.wav").write_bytes(b"x")
    for speaker in ("Ada", "Eve"):
        lines = [{"path": f"{name}.wav", "question": "Dog?", "speaker": speaker + name} for name in "ab"]
        listing.write_text("\n".join(map(json.dumps, lines)))
        summary, _ = run(model, out, str(listing), questions=[], format="lance")

        assert summary.rows == 2
        assert [json.loads(row["manifest"])["speaker"] for row in rows_at(out)] == [
            f"{speaker}a",
            f"{speaker}b",
        ]


def test_an_output_of_another_kind_is_refused(model, tmp_path):  # noqa: F811
    for first, then, expected in [
        ("parquet", "lance", "holds Parquet or JSONL files; give another folder for caption.format=lance"),
        ("lance", "jsonl", "holds a Lance table, not jsonl; set caption.format=lance"),
    ]:
        out = str(tmp_path / first)
        run(model, out, files("a"), format=first)
        with pytest.raises(ConfigError, match=expected):
            run(model, out, files("a"), format=then)


def test_a_table_of_other_rows_is_refused(tmp_path):
    import pyarrow as pa

    lance.write_dataset(pa.table({"n": [1]}), f"{tmp_path}/{TABLE}")

    with pytest.raises(DataError, match=r"rows\.lance holds other rows than this job's; give it a folder"):
        LanceStore(str(tmp_path))


def test_a_bucket_that_is_not_there_is_one_line(bucket):
    with pytest.raises(
        DataError, match=r"^s3://no-such-bucket/out/rows\.lance cannot be (read|written): [^\n]*$"
    ):
        LanceStore("s3://no-such-bucket/out")
