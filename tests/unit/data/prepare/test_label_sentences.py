"""Generated descriptions: many frames, every label named, the same words each time."""

import pytest

from mats_ray.data.prepare.label_sentences import (
    FRAMES,
    join_labels,
    label_in_sentence,
    readable_label,
    sentence,
)
from mats_ray.data.sources.registry import LabelKind


@pytest.mark.parametrize("kind", LabelKind)
def test_every_kind_has_fifty_frames_at_least_all_different(kind):
    frames = FRAMES[kind]

    assert len(set(frames)) == len(frames) >= 50
    assert all(frame.count("{x}") == 1 and frame.endswith(".") for frame in frames)
    assert all(len(frame.split()) < 20 for frame in frames)
    assert not any("heard" in frame for frame in frames)


@pytest.mark.parametrize("kind", LabelKind)
def test_a_label_gets_fifty_different_sentences_and_is_named_in_each(kind):
    sentences = {sentence(("Dog_bark",), kind, seed=0, row_id=f"row {n}") for n in range(2_000)}

    assert len(sentences) >= 50
    assert all("dog bark" in one.lower() for one in sentences)
    assert all(one[0].isupper() or not one[0].isalpha() for one in sentences)


def test_all_labels_of_a_clip_are_in_the_sentence():
    text = sentence(("Electric_guitar", "Guitar", "Music"), LabelKind.SOUND, seed=0, row_id="fsd50k/train/1")

    assert "electric guitar, guitar and music" in text.lower()


def test_sentences_follow_from_seed_and_row_alone():
    def draw(seed):
        return [sentence(("Rain",), LabelKind.SOUND, seed=seed, row_id=f"{n}") for n in range(50)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_these_words_never_change():
    """Embeddings of a prepared set belong to them."""
    assert sentence(("Rain",), LabelKind.SOUND, seed=0, row_id="esc50/train/1.wav#0") == (
        "It is the sound of rain close to the microphone."
    )


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
    assert readable_label(label) == expected


@pytest.mark.parametrize(
    ("label", "expected"),
    [("Electric guitar", "electric guitar"), ("DJ set", "DJ set"), ("A capella", "a capella")],
)
def test_only_abbreviations_keep_their_capitals(label, expected):
    assert label_in_sentence(label) == expected


def test_labels_are_listed_as_in_a_sentence():
    assert join_labels(("Dog",)) == "dog"
    assert join_labels(("Dog", "Rain")) == "dog and rain"
    assert join_labels(("Dog", "Rain", "Wind")) == "dog, rain and wind"
