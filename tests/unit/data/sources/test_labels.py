import pytest

from mats_ray.data.sources.labels import in_sentence, joined, plain


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("Bark_and_howl", "Bark and howl"),
        ("dog_bark", "dog bark"),
        ("cafe/restaurant", "cafe or restaurant"),
        ("Air horn, truck horn", "Air horn, truck horn"),
        ("'quoted'", "quoted"),
        ("  two  spaces ", "two spaces"),
    ],
)
def test_labels_are_written_as_people_do(label, expected):
    assert plain(label) == expected


@pytest.mark.parametrize(
    ("label", "expected"),
    [("Electric guitar", "electric guitar"), ("DJ set", "DJ set"), ("A capella", "a capella")],
)
def test_only_abbreviations_keep_their_capitals(label, expected):
    assert in_sentence(label) == expected


def test_labels_are_listed_as_in_a_sentence():
    assert joined(("Dog",)) == "dog"
    assert joined(("Dog", "Rain")) == "dog and rain"
    assert joined(("Dog", "Rain", "Wind")) == "dog, rain and wind"
