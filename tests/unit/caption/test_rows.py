"""Output rows keep the contract: one per file and prompt, every column, errors with code and words."""

import pyarrow as pa

from mats_ray.caption.prompts import CAPTION
from mats_ray.caption.rows import (
    SCHEMA,
    Prompt,
    Provenance,
    RowError,
    Source,
    error_row,
    ok_row,
    to_table,
    with_manifest,
)
from mats_ray.config.generation import GenerationConfig
from mats_ray.data.manifest import ManifestRow
from mats_ray.errors import AudioError
from mats_ray.tasks import INSTRUCTIONS, Task
from mats_ray.types import Answer

PROVENANCE = Provenance(model_id="m@1", generation=GenerationConfig(profile="fast", max_new_tokens=9))
SOURCE = Source(path="/a.wav", etag="e1", start_s=0.0, end_s=2.5)
ANSWER = Answer(text="a dog", num_tokens=2, finish_reason="stop")


def test_a_caption_row():
    (row,) = to_table([ok_row(SOURCE, CAPTION, PROVENANCE, ANSWER)]).to_pylist()

    assert row == {
        "path": "/a.wav",
        "listed_path": None,
        "etag": "e1",
        "segment_start_s": 0.0,
        "segment_end_s": 2.5,
        "segment": 0,
        "is_last_segment": True,
        "status": "ok",
        "error_code": None,
        "error": None,
        "task": "caption",
        "prompt": INSTRUCTIONS[Task.CAPTION],
        "caption": "a dog",
        "answer": None,
        "scores": None,
        "model_id": "m@1",
        "decoding": "fast, at most 9 tokens",
        "num_tokens": 2,
        "manifest": None,
    }


def test_an_answer_row():
    (row,) = to_table([ok_row(SOURCE, Prompt(Task.QA, "Dog?"), PROVENANCE, ANSWER)]).to_pylist()

    assert (row["task"], row["prompt"], row["answer"], row["caption"]) == ("qa", "Dog?", "a dog", None)


def test_an_error_row():
    error = RowError.of(AudioError("/a.wav is empty (0 bytes)", code="empty"))
    source = Source(path="/a.wav", etag="e1")
    (row,) = to_table([error_row(source, CAPTION, PROVENANCE, error)]).to_pylist()

    assert (row["status"], row["error_code"], row["error"]) == ("error", "empty", "/a.wav is empty (0 bytes)")
    assert [row[name] for name in ("segment_start_s", "segment_end_s", "caption", "num_tokens")] == [None] * 4
    assert (row["path"], row["etag"], row["model_id"]) == ("/a.wav", "e1", "m@1")


def test_rows_have_the_columns_of_their_row_of_the_manifest():
    manifest = {
        "/a.wav": [ManifestRow("a.wav", "", '{"n": 1}'), ManifestRow("./a.wav", " Dog? ", '{"n": 2}')]
    }
    other = Source(path="/b.wav", etag="")
    rows = [
        ok_row(SOURCE, Prompt(Task.QA, "Dog?"), PROVENANCE, ANSWER),
        ok_row(SOURCE, CAPTION, PROVENANCE, ANSWER),
        ok_row(other, CAPTION, PROVENANCE, ANSWER),
    ]

    table = with_manifest(to_table(rows), manifest)

    assert table.schema.equals(SCHEMA)
    assert table.select(["listed_path", "manifest"]).to_pylist() == [
        {"listed_path": "./a.wav", "manifest": '{"n": 2}'},
        {"listed_path": "a.wav", "manifest": '{"n": 1}'},
        {"listed_path": None, "manifest": None},
    ]
    assert with_manifest(table, {}) is table


def test_the_schema_stays_when_columns_are_all_null():
    error = RowError("not_found", "gone")
    table = to_table([error_row(Source(path="p", etag=""), CAPTION, PROVENANCE, error)])

    assert table.schema == SCHEMA
    assert to_table([]).schema == SCHEMA
    assert pa.concat_tables([table, to_table([])]).num_rows == 1
