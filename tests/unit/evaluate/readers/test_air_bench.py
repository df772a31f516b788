"""AIR-Bench chat: the tasks that are wanted, and a description of the audio for the judge."""

import json

import pytest

from mats_ray.evaluate.readers.air_bench import reader
from tests.unit.data.sources.reading import write
from tests.unit.evaluate.benchmarks.published import air_bench_item
from tests.unit.evaluate.reading import Entries

READ = reader({"sound_QA"})


def read_items(folder, *items):
    return Entries(READ, write(folder, "Chat_meta.json", json.dumps(items)))


def test_other_tasks_are_left_out(tmp_path):
    entries = read_items(tmp_path, air_bench_item(1, "music_QA", "x"), air_bench_item(2, "sound_QA", "x"))

    assert (entries.ids, entries.dropped) == (["2"], {"of another task": 1})


def test_questions_on_one_clip_are_samples_of_their_own(tmp_path):
    entries = read_items(tmp_path, air_bench_item(0, "sound_QA", "x"), air_bench_item(1, "sound_QA", "x"))

    assert entries.ids == ["0", "1"]
    assert entries.samples[0].audio == entries.samples[1].audio


@pytest.mark.parametrize(
    ("meta_info", "description"),
    [("['It rains.']", "['It rains.']"), (["It rains."], '["It rains."]'), ({"key": "é"}, '{"key": "é"}')],
)
def test_the_description_is_a_text(tmp_path, meta_info, description):
    (sample,) = read_items(tmp_path, air_bench_item(0, "sound_QA", "x", meta_info=meta_info)).samples

    assert sample.categories["meta_info"] == description


@pytest.mark.parametrize("change", [{"question": " "}, {"answer_gt": None}, {"path": 3}, {"uniq_id": None}])
def test_an_item_that_lacks_something_is_rejected(tmp_path, change):
    entries = read_items(tmp_path, air_bench_item(0, "sound_QA", "x", **change), ["no object"])

    assert (entries.samples, [number for number, _ in entries.rejected]) == ([], [1, 2])
