"""The noise variance is estimated by captions of one clip: of the sources that tell, and of nothing else."""

import numpy as np
import pytest
import torch

from mats_ray.config import RunConfig
from mats_ray.config.model import known_variance
from mats_ray.data.embedding import noise_variance as module
from mats_ray.data.embedding.noise_variance import (
    VarianceEstimate,
    captions_of_clips,
    estimate,
    estimate_of,
    table,
    training_variance,
)
from mats_ray.errors import ConfigError, DataError
from mats_ray.models.clap import load_clap
from mats_ray.tasks import Task
from mats_ray.types import Triplet
from tests.unit.data.embedding.triplets import write_triplets

DIM = 64


def caption(row_id, text, *, split="train", task=Task.CAPTION):
    source = row_id.partition("/")[0]
    return Triplet(
        id=row_id,
        text=text,
        instruction="Describe.",
        answer=text,
        task=task,
        source=source,
        split=split,
        license="MIT",
    )


def clotho(clips, *, captions=5, split="train"):
    return [
        caption(f"clotho/{split}/{clip}.wav/{place}", f"clip {clip} said {place}", split=split)
        for clip in range(clips)
        for place in range(1, captions + 1)
    ]


def noised(texts, *, variance):
    """A clip's captions are its point and noise: the variance is known."""
    rows = []
    for text in texts:
        clip = text.partition(" said")[0]
        centre = np.random.default_rng(list(clip.encode())).standard_normal(DIM)
        noise = np.random.default_rng(list(text.encode())).standard_normal(DIM) * variance**0.5
        rows.append(centre + noise)
    return torch.from_numpy(np.array(rows))


def read(tmp_path, *rows, seed=0):
    write_triplets(tmp_path / "triplets", *rows)
    return captions_of_clips(str(tmp_path / "triplets"), seed=seed)


def test_the_variance_of_known_noise_is_found_within_its_error(tmp_path):
    clips = read(tmp_path, clotho(300))

    found = estimate(clips, lambda texts: noised(texts, variance=0.02))

    assert list(found) == ["clotho"]
    one = found["clotho"]
    assert (one.num_clips, one.num_pairs) == (300, 3000)
    assert abs(one.value - 0.02) < 4 * one.error
    assert 0 < one.error < 0.0005


def test_it_is_the_mean_over_pairs_of_the_squared_distance():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])

    found = estimate({"clotho": [["a", "b", "c"]]}, lambda _: rows)["clotho"]

    distances = [(rows[i] - rows[j]).square().sum() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found.value == pytest.approx(float(sum(distances)) / 3 / (2 * 2), rel=1e-3)
    assert (found.error, found.num_clips, found.num_pairs) == (None, 1, 3)


def test_the_clip_is_told_by_sources_that_have_several_captions_a_clip(tmp_path):
    rows = [
        *clotho(1, captions=2),
        caption("macs/train/hall.wav/1", "people talk"),
        caption("macs/train/hall.wav/2", "a hall"),
        caption("audiocaps/val/Yx_130/97151", "ducks quack"),
        caption("audiocaps/val/Yx_130/97152", "water splashes"),
        caption("song_describer/train/77/1", "slow", task=Task.MUSIC_CAPTION),
        caption("song_describer/train/77/2", "sad", task=Task.MUSIC_CAPTION),
        # one caption a clip, or none that says so
        caption("audiocaps/train/91139", "wind"),
        caption("audiocaps/train/91140", "rain"),
        caption("wavcaps_bbc/train/a/1", "a door"),
        caption("wavcaps_bbc/train/a/2", "a gate"),
        caption("mine/train/rows.csv/1", "a car"),
        caption("mine/train/rows.csv/2", "a horn"),
    ]

    assert {source: len(clips) for source, clips in read(tmp_path, rows).items()} == dict.fromkeys(
        ("audiocaps", "clotho", "macs", "song_describer"), 1
    )


def test_equal_captions_questions_and_test_splits_do_not_count(tmp_path):
    rows = [
        *clotho(3, split="test"),
        caption("clotho/train/a.wav/1", "the same"),
        caption("clotho/train/a.wav/2", "the same"),
        caption("clotho/train/b.wav/1", "one", task=Task.QA),
        caption("clotho/train/b.wav/2", "two", task=Task.QA),
    ]

    with pytest.raises(
        DataError, match=r"the triplets at .* have no clip with two captions to estimate a noise"
    ):
        read(tmp_path, rows)


def test_clips_and_captions_are_bounded_and_drawn_by_the_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_CLIPS", 20)
    monkeypatch.setattr(module, "_CANDIDATES", 30)
    rows = clotho(200, captions=12)

    first = read(tmp_path / "a", rows)["clotho"]
    reordered = read(tmp_path / "b", rows[1000:], rows[:1000])["clotho"]
    other = read(tmp_path / "c", rows, seed=1)["clotho"]

    assert [len(texts) for texts in first] == [10] * 20
    assert first == reordered
    assert first != other


def test_sources_together_are_the_mean_over_their_clips():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.6, 0.8]]).repeat(2, 1)

    found = estimate(
        {"clotho": [["a", "b"], ["c", "d"]], "macs": [["e", "f"], ["g", "h"]]},
        lambda texts: rows[: len(texts)],
    )

    assert found["all"].value == pytest.approx(found["clotho"].value)
    assert (found["all"].num_clips, found["all"].num_pairs) == (4, 4)
    assert list(found) == ["clotho", "macs", "all"]


def test_the_clap_of_the_run_embeds_them(tmp_path, model_dir):
    clap = model_dir.parent / "clap"
    words = ("dog", "rain", "siren", "bell", "roof")
    rows = [
        caption(f"clotho/train/{first}/{place}", f"a {first} {second}")
        for first in words
        for place, second in enumerate(words)
    ]
    write_triplets(tmp_path / "embedded", rows)
    config = RunConfig.model_validate(
        {"toy": {}, "output_dir": str(tmp_path), "model": {"clap": {"ref": str(clap)}}}
    )

    found = training_variance(config)

    assert found == estimate_of(config, config.embedded_path)["clotho"]
    texts = [[f"a {first} {second}" for second in words] for first in words]
    encoder = load_clap(clap)
    spreads = [float(encoder.encode_text(some).double().var(0).mean()) for some in texts]
    assert found.value == pytest.approx(np.mean(spreads), rel=1e-3)


def test_a_table_has_the_papers_number_beside():
    estimates = {
        "clotho": VarianceEstimate(value=0.0123, error=0.00045, num_clips=20, num_pairs=200),
        "macs": VarianceEstimate(value=0.02, error=None, num_clips=1, num_pairs=1),
    }

    lines = table(estimates).splitlines()

    assert lines[1].split() == ["clotho", "20", "200", "0.0123", "±", "0.00045"]
    assert lines[2].split() == ["macs", "1", "1", "0.02"]
    assert lines[-1].split() == ["the", "paper", "0.015", "(MS-CLAP", "2023)"]


def test_a_variance_that_is_not_known_yet_is_refused():
    assert known_variance(0.25) == 0.25
    with pytest.raises(ConfigError, match="a noise variance of auto is estimated by"):
        known_variance("auto")
