"""The table of sources: reader, splits, licence and kind of labels of each."""

import pytest

from mats_ray.data.sources.registry import SOURCES, clip_of
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


@pytest.mark.parametrize(
    ("row_id", "clip"),
    [
        ("clotho/train/a b.wav/3", "clotho/train/a b.wav"),
        ("macs/train/hall-0.wav/2", "macs/train/hall-0.wav"),
        ("audiocaps/val/-Yx_130/97151", "audiocaps/val/-Yx_130"),
        ("song_describer/train/77/5#1", "song_describer/train/77"),
        ("audiocaps/train/91139", None),
        ("wavcaps_bbc/train/a/2", None),
        ("mine/train/rows.csv/2", None),
    ],
)
def test_the_captions_of_one_clip_share_their_id_up_to_the_last_slash(row_id, clip):
    assert clip_of(row_id, row_id.partition("/")[0]) == clip


def test_published_names_determine_the_split():
    assert SOURCES["clotho"].split_of("clotho_captions_evaluation.csv") == "test"
    assert SOURCES["audiocaps"].split_of("train.csv") == "train"
    assert SOURCES["audiocaps_fixed"].split_of("train_v2.csv") == "train"
    assert SOURCES["musicqa"].split_of("EvalMusicQA.json") == "test"
    assert SOURCES["clotho_aqa"].split_of("clotho_aqa_train_clean.csv") is None
    assert SOURCES["fsd50k"].split_of("vocabulary.csv") is None
