"""Output rows keep the contract: one per file and prompt, every column, errors with code and words."""

import pyarrow as pa
import pytest

from mats_ray.config.infer import GenerationConfig
from mats_ray.errors import AudioError, ConfigError
from mats_ray.infer.rows import SCHEMA, Prompt, Respondent, Source, error_row, ok_row, prompts_for, to_table
from mats_ray.tasks import INSTRUCTIONS, Task
from mats_ray.types import Answer

RESPONDENT = Respondent(model_id="m@1", generation=GenerationConfig(profile="fast", max_new_tokens=9))
HEARD = Source(path="/a.wav", etag="e1", seconds=2.5)
ANSWER = Answer(text="a dog", num_tokens=2, finish_reason="stop")


def test_a_caption_row():
    (prompt,) = prompts_for([])
    (row,) = to_table([ok_row(HEARD, prompt, RESPONDENT, ANSWER)]).to_pylist()

    assert row == {
        "path": "/a.wav",
        "etag": "e1",
        "segment_start_s": 0.0,
        "segment_end_s": 2.5,
        "status": "ok",
        "error_code": None,
        "error": None,
        "task": "caption",
        "prompt": INSTRUCTIONS[Task.CAPTION],
        "caption": "a dog",
        "answer": None,
        "model_id": "m@1",
        "decoding": "fast, at most 9 tokens",
        "num_tokens": 2,
    }


def test_an_answer_row():
    (row,) = to_table([ok_row(HEARD, Prompt(Task.QA, "Dog?"), RESPONDENT, ANSWER)]).to_pylist()

    assert (row["task"], row["prompt"], row["answer"], row["caption"]) == ("qa", "Dog?", "a dog", None)


def test_an_error_row():
    error = AudioError("/a.wav is empty (0 bytes)", code="empty")
    source = Source(path="/a.wav", etag="e1")
    (row,) = to_table([error_row(source, prompts_for([])[0], RESPONDENT, error)]).to_pylist()

    assert (row["status"], row["error_code"], row["error"]) == ("error", "empty", "/a.wav is empty (0 bytes)")
    assert [row[name] for name in ("segment_start_s", "segment_end_s", "caption", "num_tokens")] == [None] * 4
    assert (row["path"], row["etag"], row["model_id"]) == ("/a.wav", "e1", "m@1")


def test_the_schema_stays_when_columns_are_all_null():
    error = AudioError("gone", code="not_found")
    table = to_table([error_row(Source(path="p", etag=""), prompts_for([])[0], RESPONDENT, error)])

    assert table.schema == SCHEMA
    assert to_table([]).schema == SCHEMA
    assert pa.concat_tables([table, to_table([])]).num_rows == 1


def test_questions_are_asked_once_each_in_order():
    assert prompts_for(["Dog?", " Rain? ", "Dog?"]) == [Prompt(Task.QA, "Dog?"), Prompt(Task.QA, "Rain?")]


@pytest.mark.parametrize("questions", [[""], ["Dog?", "  "]])
def test_an_empty_question_is_refused(questions):
    with pytest.raises(ConfigError, match="question is empty"):
        prompts_for(questions)
