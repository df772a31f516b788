"""The table of sources: reader, splits, licence and kind of labels of each."""

import pytest

from mats_ray.data.sources.registry import SOURCES
from mats_ray.tasks import Task

DOCUMENTED = {
    "audiocaps",
    "audiocaps2",
    "audiocaps_fixed",
    "audioset",
    "audioset_strong",
    "beijing_opera",
    "clotho",
    "clotho_aqa",
    "clotho_aqa_clean",
    "crema_d",
    "dcase2017_task4",
    "esc50",
    "fsd50k",
    "gtzan",
    "macs",
    "magnatagatune",
    "musiccaps",
    "musicqa",
    "nsynth",
    "openaqa",
    "ravdess",
    "sesa",
    "song_describer",
    "tut2017",
    "urbansound8k",
    "vggsound",
    "vocalsound",
    "wavcaps_audioset",
    "wavcaps_bbc",
    "wavcaps_freesound",
    "wavcaps_soundbible",
}


def test_every_documented_source_is_there():
    assert SOURCES.keys() >= DOCUMENTED


@pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))
def test_a_source_declares_licence_splits_and_kind_of_labels(source):
    assert source.license
    assert source.splits
    assert "test" not in source.splits
    assert (source.kind is not None) == (source.task is Task.CLASSIFICATION)
    assert source.copies == 1 or source.kind is not None


def test_published_names_determine_the_split():
    assert SOURCES["clotho"].split_of("clotho_captions_evaluation.csv") == "test"
    assert SOURCES["audiocaps"].split_of("train.csv") == "train"
    assert SOURCES["audiocaps_fixed"].split_of("train_v2.csv") == "train"
    assert SOURCES["musicqa"].split_of("EvalMusicQA.json") == "test"
    assert SOURCES["clotho_aqa"].split_of("clotho_aqa_train_clean.csv") is None
    assert SOURCES["fsd50k"].split_of("vocabulary.csv") is None
