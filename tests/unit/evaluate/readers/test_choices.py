"""Questions with choices: the text that is asked, JSON and JSON Lines, revisions, splits."""

import json

import pytest

from mats_ray.errors import DataError
from mats_ray.evaluate.readers.choices import question_text, reader
from tests.unit.data.sources.reading import write
from tests.unit.evaluate.reading import Entries

ITEM = {
    "audio_id": "./a/1.wav",
    "question": "Who?",
    "choices": ["A man", "A dog"],
    "answer": "A dog",
    "task": "x",
}
READ = reader(audio="audio_id", columns=("task",))


def read_items(folder, *items, read=READ):
    return Entries(read, write(folder, "x.json", json.dumps(items)))


def test_choices_are_quoted_and_one_of_them_alone_is_asked_for():
    assert question_text("Who?", ["A man", "It's a dog"]).splitlines() == [
        "Who?",
        "Select one option:",
        '"A man", "It\'s a dog"',
        "Answer with exactly one of these options, word for word, and nothing else.",
    ]


def test_a_list_and_lines_are_read_alike(tmp_path):
    items = [ITEM, ITEM | {"audio_id": "./a/2.wav"}]
    lines = "".join(f"{json.dumps(one)}\n" for one in items)

    listed = read_items(tmp_path, *items)
    in_lines = Entries(READ, write(tmp_path, "x.jsonl", "\n" + lines))

    assert listed.samples == in_lines.samples
    assert listed.ids == ["1", "2"]


def test_an_id_counts_before_the_name_of_the_audio(tmp_path):
    entries = read_items(tmp_path, ITEM | {"id": "seven"}, ITEM | {"audio_id": "3"})

    assert [(one.id, one.audio) for one in entries.samples] == [("seven", ("1.wav",)), ("3", ("3",))]


def test_lists_and_numbers_are_texts_and_the_word_none_is_a_choice(tmp_path):
    (sample,) = read_items(tmp_path, ITEM | {"choices": [1, "None"], "answer": 1, "task": ["x", "y"]}).samples

    assert (sample.choices, sample.references, sample.categories) == (("1", "None"), ("1",), {"task": "x, y"})


@pytest.mark.parametrize(
    "change",
    [
        {"choices": ["A dog"]},
        {"choices": "A dog"},
        {"choices": ["A dog", ""]},
        {"question": ""},
        {"audio_id": None},
    ],
)
def test_an_item_that_lacks_something_is_rejected(tmp_path, change):
    entries = read_items(tmp_path, ITEM | change)

    assert entries.rejected == [(1, "no audio_id, no question, or not two choices at least")]


def test_an_item_without_an_answer_is_rejected_where_answers_are_published(tmp_path):
    item = {key: value for key, value in ITEM.items() if key != "answer"}
    unanswered = reader(audio="audio_id", columns=(), answered=False)

    assert read_items(tmp_path, item).rejected == [(1, "no answer")]
    assert read_items(tmp_path, item, read=unanswered).references == [()]


def test_items_of_another_split_are_left_out(tmp_path):
    read = reader(audio="audio_id", columns=(), split="test-mini")

    entries = read_items(tmp_path, ITEM | {"split": "test"}, ITEM | {"split": "test-mini"}, ITEM, read=read)

    assert (len(entries.samples), entries.dropped) == (2, {"of another split": 1})


def test_an_answer_that_changed_tells_a_revision_from_another(tmp_path):
    assert read_items(tmp_path, ITEM, read=reader(audio="audio_id", columns=(), known=("1", "A dog"))).samples
    with pytest.raises(
        DataError, match=r"x\.json is another revision than the test split: .* 'A dog', not 'A man'"
    ):
        read_items(tmp_path, ITEM, read=reader(audio="audio_id", columns=(), known=("1", "A man")))
