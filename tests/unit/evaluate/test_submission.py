"""Answers for the authors' own scripts: their items, whole, each with its answer."""

import json

import pytest

from mats_ray.evaluate.benchmark import Submission
from mats_ray.evaluate.submission import write_submission
from tests.unit.evaluate.logs import row, write_log

ITEMS = [{"id": "a", "question": "Ü?", "choices": ["x", "y"]}, {"id": "b", "question": "?"}, {"id": "other"}]
AS_LIST = json.dumps(ITEMS)
AS_LINES = "".join(f"{json.dumps(item)}\n" for item in ITEMS)


@pytest.mark.parametrize("text", [AS_LIST, AS_LINES])
@pytest.mark.parametrize("file", ["submission.json", "submission.jsonl"])
def test_each_sample_is_its_item_with_the_answer_and_no_answer_is_an_empty_one(tmp_path, text, file):
    (tmp_path / "annotations.json").write_text(text)
    log = write_log(tmp_path / "tiny", [row("a", "x", "the answer"), row("b", "x", "half", "error")])

    write_submission(
        log, Submission(file=file, id_key="id", answer_key="out"), str(tmp_path / "annotations.json")
    )

    written = (tmp_path / "tiny" / file).read_text("utf-8")
    found = json.loads(written) if file.endswith(".json") else [json.loads(x) for x in written.splitlines()]
    assert found == [ITEMS[0] | {"out": "the answer"}, ITEMS[1] | {"out": ""}]
