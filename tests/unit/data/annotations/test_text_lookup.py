from pathlib import Path

import pytest

from mats_ray.data.annotations.text_lookup import TextLookup


def test_texts_come_back_in_the_order_they_came():
    with TextLookup() as lookup:
        for number in range(25_000):
            lookup.add(f"clip {number % 5_000}", f"text {number}")

        assert lookup.get("clip 7") == [f"text {number}" for number in range(7, 25_000, 5_000)]
        assert lookup.get("none") == []


def test_the_file_is_removed_and_reading_ends_writing():
    with TextLookup() as lookup:
        path = Path(lookup._path)
        lookup.add("a", "b")
        lookup.get("a")
        with pytest.raises(AssertionError, match="filled before"):
            lookup.add("c", "d")
    assert not path.exists()
