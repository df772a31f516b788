"""Questions with an answer: no repeated question is lost, ids do not depend on lines."""

import json

import pytest

from mats_ray.errors import DataError
from mats_ray.evaluate.readers.questions import read_clotho_aqa, read_musicqa
from tests.unit.data.sources.reading import write
from tests.unit.evaluate.reading import Entries

HEADER = "file_name,QuestionText,answer\n"
ROWS = '"a.wav","Is it loud?",YES\n"a.wav","How many dogs, if any?",TWO\n'


def test_a_header_or_none_makes_no_difference(tmp_path):
    with_header = Entries(read_clotho_aqa, write(tmp_path, "a.csv", HEADER + ROWS))
    without = Entries(read_clotho_aqa, write(tmp_path, "b.csv", ROWS))

    assert with_header.samples == without.samples
    assert with_header.ids == ["a.wav/Is it loud?", "a.wav/How many dogs, if any?"]


def test_yes_or_no_is_a_kind_of_question(tmp_path):
    entries = Entries(read_clotho_aqa, write(tmp_path, "a.csv", HEADER + ROWS))

    assert [one.categories["kind"] for one in entries.samples] == ["yes or no", "single word"]
    assert entries.references == [("yes",), ("two",)]


def test_a_question_asked_three_times_is_three_samples(tmp_path):
    entries = Entries(read_clotho_aqa, write(tmp_path, "a.csv", HEADER + '"a.wav","Rain?",YES\n' * 3))

    assert entries.ids == ["a.wav/Rain?", "a.wav/Rain?/2", "a.wav/Rain?/3"]


def test_the_raw_file_is_refused_whatever_its_name(tmp_path):
    raw = "file_name,QuestionText,answer,confidence\na.wav,Is it loud?,yes,yes\n"

    with pytest.raises(
        DataError, match=r"clean\.csv has a row per annotator; what is read is the test split"
    ):
        Entries(read_clotho_aqa, write(tmp_path, "clotho_aqa_test_clean.csv", raw))


def test_what_is_empty_is_rejected(tmp_path):
    entries = Entries(read_clotho_aqa, write(tmp_path, "a.csv", HEADER + '"a.wav","",YES\n,"Loud?",NO\n'))

    assert (entries.samples, [number for number, _ in entries.rejected]) == ([], [2, 3])


def test_musicqa_items_that_are_no_pair_are_rejected(tmp_path):
    good = {"audio_name": "1.wav", "conversation": [{"value": "Mood?"}, {"value": "Sad."}]}
    bad = [{"audio_name": "1.wav"}, 7, good | {"audio_name": ""}]

    entries = Entries(read_musicqa, write(tmp_path, "EvalMusicQA.json", json.dumps([good, *bad, good])))

    assert entries.ids == ["1.wav/Mood?", "1.wav/Mood?/2"]
    assert [number for number, _ in entries.rejected] == [2, 3, 4]
