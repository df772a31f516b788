"""Captions put together by clip."""

import pytest

from mats_ray.errors import DataError
from mats_ray.evaluate.readers.captions import read_audiocaps, read_clotho, read_musiccaps
from tests.unit.data.sources.reading import write
from tests.unit.evaluate.reading import Entries

AUDIOCAPS = "audiocap_id,youtube_id,start_time,caption\r\n"
CLOTHO = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n"
MUSICCAPS = "ytid,start_s,end_s,caption,is_audioset_eval\n"


def test_captions_of_a_clip_are_put_together_wherever_they_stand(tmp_path):
    rows = AUDIOCAPS + "1,a,30,A dog barks\r\n2,b,0,Rain\r\n3,a,30,Barking\r\n"

    entries = Entries(read_audiocaps, write(tmp_path, "test.csv", rows))

    assert (entries.ids, entries.references) == (["a", "b"], [("A dog barks", "Barking"), ("Rain",)])


def test_a_caption_of_audiocaps_that_is_empty_or_without_a_clip_is_rejected(tmp_path):
    rows = AUDIOCAPS + "1,a,30,\r\n2,,0,Rain\r\n3,a,soon,Barking\r\n4,a,30,Woof\r\n"

    entries = Entries(read_audiocaps, write(tmp_path, "test.csv", rows))

    assert entries.references == [("Woof",)]
    assert [number for number, _ in entries.rejected] == [2, 3, 4]


def test_a_row_of_clotho_without_captions_is_no_sample(tmp_path):
    rows = CLOTHO + "a.wav,,,,,\n,x,x,x,x,x\nb.wav,One.,Two.,Three.,Four.,Five.\n"

    entries = Entries(read_clotho, write(tmp_path, "c.csv", rows))

    assert entries.ids == ["b.wav"]
    assert len(entries.rejected) == 6


def test_a_clip_of_clotho_without_a_name_is_rejected(tmp_path):
    entries = Entries(read_clotho, write(tmp_path, "c.csv", CLOTHO + ",x,x,x,x,x\n"))

    assert entries.rejected == [(2, "empty file_name")]


@pytest.mark.parametrize(
    ("value", "is_test"), [("True", True), ("TRUE", True), ("1", True), ("False", False)]
)
def test_musiccaps_split_is_read_as_spreadsheets_write_it(tmp_path, value, is_test):
    entries = Entries(read_musiccaps, write(tmp_path, "m.csv", f"{MUSICCAPS}-a,0,10,A song.,{value}\n"))

    assert entries.ids == (["-a"] if is_test else [])
    assert entries.dropped == ({} if is_test else {"of another split": 1})


@pytest.mark.parametrize(
    "row", ["-a,0,10,,True", ",0,10,A song.,True", "-a,0,end,A song.,True", "-a,0,10,A song.,?"]
)
def test_a_clip_of_musiccaps_that_lacks_something_is_rejected(tmp_path, row):
    entries = Entries(read_musiccaps, write(tmp_path, "m.csv", f"{MUSICCAPS}{row}\n"))

    assert (entries.samples, [number for number, _ in entries.rejected]) == ([], [2])


@pytest.mark.parametrize("read", [read_audiocaps, read_clotho, read_musiccaps])
def test_a_file_with_other_columns_is_refused(read, tmp_path):
    with pytest.raises(DataError, match="has no column"):
        Entries(read, write(tmp_path, "x.csv", "a,b\n1,2\n"))
