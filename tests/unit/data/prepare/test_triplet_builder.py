"""One record to its triplets: what every source has in common."""

import json
from dataclasses import replace

import pytest

from mats_ray.data.annotations.reader import Dropped, Rejected, Row
from mats_ray.data.prepare.instructions import INSTRUCTION_VARIANTS
from mats_ray.data.prepare.triplet_builder import MAX_CHARACTERS, TripletBuilder, read_descriptions
from mats_ray.data.sources.registry import SOURCES
from mats_ray.errors import DataError
from mats_ray.tasks import Task
from tests.unit.data.sources.reading import write


def builder_of(name, **changes):
    source = SOURCES[name]
    base = TripletBuilder(source=source, split="train", splits=source.splits, copies=1, seed=0)
    return replace(base, **changes)


def test_a_caption_is_text_and_answer_on_one_line():
    (made,) = builder_of("musiccaps")(Row(7, "abc_30", text=" A song.\nIt is  sad. "))

    row_id, text, instruction, answer, *rest = made
    assert row_id == "musiccaps/train/abc_30"
    assert text == answer == "A song. It is sad."
    assert instruction in INSTRUCTION_VARIANTS[Task.MUSIC_CAPTION]
    assert rest == ["music_caption", "musiccaps", "train", "CC BY-SA 4.0"]


def test_labels_become_a_sentence_and_an_answer_in_the_sets_order():
    (made,) = builder_of("fsd50k")(Row(1, "64760", labels=("Electric_guitar", "Bark_and_howl"), split="val"))

    assert made[0] == "fsd50k/val/64760"
    assert "electric guitar and bark and howl" in made[1].lower()
    assert made[3] == "Electric guitar; Bark and howl"
    assert made[4:] == ("classification", "fsd50k", "val", "CC BY 4.0")


def test_copies_of_a_clip_have_ids_and_sentences_of_their_own():
    made = builder_of("esc50", copies=11)(Row(1, "1-1.wav", labels=("dog",)))

    assert [one[0] for one in made] == [f"esc50/train/1-1.wav#{copy}" for copy in range(11)]
    assert len({one[1] for one in made}) > 5
    assert {one[3] for one in made} == {"dog"}


def test_a_question_is_its_own_instruction():
    (made,) = builder_of("openaqa")(Row(1, "a/1", text="A dog.", question="Is it\nloud?", answer="Yes."))

    assert made[1:5] == ("A dog.", "Is it loud?", "Yes.", "qa")


def test_splits_and_licences_drop_records_with_a_reason():
    row = Row(1, "a", text="x", split="test")

    assert builder_of("clotho")(row) == Dropped(1, "split test")
    allow = builder_of("clotho", license_allow=frozenset({"CC0 1.0"}))
    assert allow(Row(2, "a", text="x")) == Dropped(2, "licence Tampere University, non-commercial")
    assert len(allow(Row(3, "a", text="x", license="CC0 1.0"))) == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (Row(1, "a", text=" \n"), "empty text"),
        (Row(1, "", text="x"), "no id"),
        (Row(1, "a", labels=("dog", "_")), "empty label"),
        (Row(1, "a", text="caf\udce9"), "not UTF-8"),
        (Row(1, "a", text="x" * (MAX_CHARACTERS + 1)), f"longer than {MAX_CHARACTERS} characters"),
    ],
)
def test_unusable_records_are_rejected(row, reason):
    assert builder_of("clotho")(row) == Rejected(1, reason)


def test_own_descriptions_replace_sentences(tmp_path):
    lines = [
        {"label": "Dog_bark", "texts": ["A dog barks.", "Woof."]},
        {"label": "rain", "text": "Rain\nfalls."},
    ]
    path = write(tmp_path, "own.jsonl", "\n".join(json.dumps(line) for line in lines))
    own = builder_of("esc50", descriptions=read_descriptions(str(path)))

    texts = {own(Row(1, str(n), labels=("dog_bark",)))[0][1] for n in range(50)}

    assert texts == {"A dog barks.", "Woof."}
    assert own(Row(1, "a", labels=("rain", "dog_bark")))[0][1].startswith("Rain falls. ")
    assert "siren" in own(Row(1, "a", labels=("siren",)))[0][1].lower()  # nothing of their own: generated


@pytest.mark.parametrize(
    "line", ["nope", "3", '{"label": "x"}', '{"text": "x"}', '{"label": "x", "texts": [1]}']
)
def test_descriptions_of_another_shape_are_named(tmp_path, line):
    with pytest.raises(DataError, match=r"own\.jsonl line 1: "):
        read_descriptions(str(write(tmp_path, "own.jsonl", line)))
