"""The vocabulary: complete, varied, and every phrase names its own sound and no other."""

import itertools

import pytest

from mats_ray.toy.grammar import sounds_named
from mats_ray.toy.sounds import SOUNDS
from mats_ray.toy.vocabulary import VOCABULARY


def test_every_sound_has_words():
    assert list(VOCABULARY) == list(SOUNDS)


@pytest.mark.parametrize("name", VOCABULARY)
def test_every_phrase_names_its_own_sound_only(name):
    words = VOCABULARY[name]

    for phrase in (words.noun, *words.clauses, *words.nominals, name):
        assert sounds_named(phrase) == {name}, phrase


@pytest.mark.parametrize("name", VOCABULARY)
def test_every_sound_has_several_phrases(name):
    words = VOCABULARY[name]

    assert len(set(words.clauses)) >= 3
    assert len(set(words.nominals)) >= 3


def test_no_word_names_two_sounds():
    words = list(itertools.chain.from_iterable(words.known_words for words in VOCABULARY.values()))

    assert len(words) == len(set(words))
