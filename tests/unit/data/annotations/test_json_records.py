"""Long JSON files item by item, whatever their layout, with no more than a window in memory."""

import json
import tracemalloc

import pytest

from mats_ray.data.annotations.json_records import MAX_ITEM_CHARACTERS, json_entries, json_items, json_lines
from mats_ray.data.annotations.reader import AnnotationFile, Rejected
from mats_ray.errors import DataError
from tests.unit.data.sources.reading import write


def read(path, reader=json_items, **how):
    found = list(reader(AnnotationFile(str(path), "train"), **how))
    rejected = [one for one in found if isinstance(one, Rejected)]
    return [item for _, item in (one for one in found if not isinstance(one, Rejected))], rejected


@pytest.mark.parametrize("indent", [None, 0, 4])
def test_items_come_whole_and_in_order_across_windows(tmp_path, indent):
    items = [{"id": number, "text": "é}{],[" * 20} for number in range(20_000)]
    path = write(tmp_path, "a.json", json.dumps(items, indent=indent))
    assert path.stat().st_size > 2 * MAX_ITEM_CHARACTERS

    assert read(path) == (items, [])


def test_a_list_below_a_key_and_a_mapping_are_read_alike(tmp_path):
    tree = {"num_captions_per_audio": 1, "data": [{"id": 1}, {"id": 2}], "more": []}
    assert read(write(tmp_path, "a.json", json.dumps(tree)), under="data")[0] == [{"id": 1}, {"id": 2}]

    mapping = {"a": {"x": 1}, "b": {"x": [1, 2]}}
    assert read(write(tmp_path, "b.json", json.dumps(mapping)), json_entries)[0] == list(mapping.items())


def test_a_broken_item_costs_itself(tmp_path):
    good, rejected = read(write(tmp_path, "a.json", '[{"id": 1}, {"id": 2,, "x": 3},\n{"id": 4}]'))

    assert good == [{"id": 1}, {"id": 4}]
    assert [one.number for one in rejected] == [2]
    assert rejected[0].reason.startswith("not JSON: ")


@pytest.mark.parametrize("text", ['[{"id": 1}, {"id": 2', '[{"id": 1},', '[{"id": 1}'])
def test_a_file_that_is_cut_off_is_an_error(tmp_path, text):
    good, rejected = read(write(tmp_path, "a.json", text))

    assert good == [{"id": 1}]
    assert rejected[-1].reason == "the file ends inside its list (cut off?)"


@pytest.mark.parametrize(("text", "how"), [("{}", {}), ('{"rows": []}', {"under": "data"}), ("", {})])
def test_another_shape_is_named(tmp_path, text, how):
    with pytest.raises(DataError, match=r"a\.json holds no JSON list"):
        read(write(tmp_path, "a.json", text), **how)


def test_empty_lists_hold_nothing(tmp_path):
    assert read(write(tmp_path, "a.json", " [ ] ")) == ([], [])


def test_lines_are_items_of_their_own(tmp_path):
    good, rejected = read(write(tmp_path, "a.jsonl", '{"a": 1}\n\nnope\n{"a": 2}\n'), json_lines)

    assert (good, [one.number for one in rejected]) == ([{"a": 1}, {"a": 2}], [3])


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(count):
        path = write(tmp_path, "a.json", json.dumps([{"id": n, "text": "x" * 500} for n in range(count)]))
        tracemalloc.start()
        for _ in json_items(AnnotationFile(str(path), "train")):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(40_000) < 1.1 * peak(10_000)
