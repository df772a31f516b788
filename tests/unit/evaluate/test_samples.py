"""Annotation files to samples: each record is one, or is counted; files of other splits are refused."""

import pytest

from mats_ray.data.annotations.reader import Dropped, Rejected, Row
from mats_ray.errors import DataError
from mats_ray.evaluate.benchmark import Sample
from mats_ray.evaluate.samples import file_name, labelled, read_samples
from tests.unit.evaluate.reading import Entries, benchmark_of


def sample(identifier, *references):
    return Sample(id=identifier, audio=(identifier,), references=references or ("bell",))


def reads(*entries):
    return lambda file: iter(entries)


def test_samples_come_in_the_order_of_the_file():
    read = read_samples(benchmark_of(reads(sample("b"), sample("a"))), "bells_test.csv")

    assert [one.id for one in read.samples] == ["b", "a"]
    assert (read.num_left_out, read.first_rejected) == (0, "")


def test_what_is_no_sample_is_counted_by_reason_and_the_first_broken_record_is_named():
    entries = (
        Dropped(1, "of another split"),
        Rejected(2, "empty label"),
        sample("a"),
        Rejected(4, "no name"),
    )

    read = read_samples(benchmark_of(reads(*entries)), "x/bells_test.csv")

    assert read.left_out == {"not usable": 2, "of another split": 1}
    assert read.num_left_out == 3
    assert read.first_rejected == "x/bells_test.csv, record 2: empty label"


def test_the_first_of_two_samples_with_one_id_counts():
    read = read_samples(benchmark_of(reads(sample("a", "bell"), sample("a", "gong"))), "bells.json")

    assert [one.references for one in read.samples] == [("bell",)]
    assert read.left_out == {"duplicate id": 1}


@pytest.mark.parametrize("reference", ["", "...", " - "])
def test_a_reference_without_words_makes_no_sample(reference):
    read = read_samples(benchmark_of(reads(sample("a"), sample("b", "bell", reference))), "bells_test.csv")

    assert [one.id for one in read.samples] == ["a"]
    assert read.left_out == {"not usable": 1}
    assert read.first_rejected.endswith("b has a reference without words")


def test_a_sample_without_references_is_one_whose_answer_is_not_published():
    secret = Sample(id="a", audio=("a",), references=())

    assert read_samples(benchmark_of(reads(secret)), "bells_test.csv").samples == [secret]


@pytest.mark.parametrize("name", ["bells_train.csv", "bells_val.csv"])
def test_the_file_of_another_split_is_refused_in_one_line(name):
    with pytest.raises(DataError) as raised:
        read_samples(benchmark_of(reads(sample("a"))), f"s3://bucket/{name}")

    assert str(raised.value) == (
        f"{name} is a file of another split or kind than bells evaluates; it reads test: "
        "bells_test.csv or bells.json"
    )


def test_a_renamed_file_is_read():
    assert read_samples(benchmark_of(reads(sample("a"))), "my_bells.txt").samples


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ((), "0 records left out"),
        ((Dropped(1, "of another split"),), "1 records left out"),
        ((Dropped(1, "of another split"), Rejected(2, "no label")), "x.csv, record 2: no label"),
    ],
)
def test_a_file_without_a_sample_is_an_error_that_says_why(entries, why):
    with pytest.raises(DataError) as raised:
        read_samples(benchmark_of(reads(*entries)), "x.csv")

    assert str(raised.value) == f"x.csv has no sample of bells: {why}"


def test_the_reader_gets_path_split_and_companions():
    seen = []

    def read(file):
        seen.append((file.path, file.split, file.companions))
        yield sample("a")

    read_samples(benchmark_of(read), "x.csv", {"names": ("n.csv",)})

    assert seen == [("x.csv", "test", {"names": ("n.csv",)})]


def test_labelled_rows_are_samples_whose_key_names_the_audio():
    rows = reads(
        Row(1, "a.wav", labels=("bell", "gong")), Rejected(2, "no label"), Dropped(3, "no audio file")
    )

    entries = Entries(labelled(rows), "x.csv")

    assert entries.samples == [Sample(id="a.wav", audio=("a.wav",), references=("bell", "gong"))]
    assert (entries.rejected, entries.dropped) == ([(2, "no label")], {"no audio file": 1})


def test_labelled_rows_of_another_split_are_left_out_and_those_that_name_none_are_not():
    rows = reads(
        Row(1, "a", labels=("x",), split="train"),
        Row(2, "b", labels=("x",), split="test"),
        Row(3, "c", labels=("x",)),
    )

    entries = Entries(labelled(rows, split="test"), "x.csv")

    assert (entries.ids, entries.dropped) == (["b", "c"], {"of another split": 1})
    assert Entries(labelled(rows), "x.csv").ids == ["a", "b", "c"]


def test_names_of_the_audio_may_follow_from_the_key_and_the_first_is_the_id():
    rows = reads(Row(1, "a_3", labels=("x",)))

    entries = Entries(labelled(rows, names=lambda key: (f"{key}.wav", key)), "x.csv")

    assert entries.samples == [Sample(id="a_3.wav", audio=("a_3.wav", "a_3"), references=("x",))]


@pytest.mark.parametrize("key", ["blues.00000.wav", "blues/blues.00000.wav", "genres/blues/blues.00000.wav"])
def test_a_file_has_the_same_id_from_whatever_folder_it_is_listed(key):
    assert file_name(key) == ("blues.00000.wav",)
