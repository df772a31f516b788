"""Scenes: what there is, what is withheld from training, how it is drawn and how it sounds."""

from collections import Counter

import numpy as np
import pytest

from mats_ray.toy.scenes import (
    KIND_SHARES,
    Scene,
    SceneClip,
    all_scenes,
    other_scene,
    render_clip,
    render_scene,
    scene_clips,
    split_scenes,
)
from mats_ray.toy.sounds import SOUNDS

PAIR_FORMS = 3


def pairs_of(scenes):
    return {frozenset(scene.sounds) for scene in scenes if scene.kind != "alone"}


def test_sounds_at_once_have_no_order_but_a_sequence_has():
    assert Scene("together", ("rain", "dog")) == Scene("together", ("dog", "rain"))
    assert Scene("then", ("rain", "dog")) != Scene("then", ("dog", "rain"))


@pytest.mark.parametrize(
    ("kind", "sounds", "message"),
    [
        ("alone", ("unicorn",), "no sound named 'unicorn'"),
        ("alone", ("dog", "cat"), "has 1 different sounds"),
        ("then", ("dog",), "has 2 different sounds"),
        ("together", ("dog", "dog"), "has 2 different sounds"),
    ],
)
def test_impossible_scenes_are_refused(kind, sounds, message):
    with pytest.raises(ValueError, match=message):
        Scene(kind, sounds)


def test_all_scenes_are_every_sound_and_every_pair_in_three_forms():
    scenes = all_scenes()

    assert len(scenes) == len(set(scenes)) == 20 + PAIR_FORMS * 190


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("seed", [0, 1])
def test_withheld_scenes_never_occur_in_training(seed, fraction):
    train, validation, novel = (set(scenes) for scenes in split_scenes(seed, fraction=fraction))

    assert train | validation | novel == set(all_scenes())
    assert len(train) + len(validation) + len(novel) == len(all_scenes())
    for withheld in (validation, novel):
        assert len(pairs_of(withheld)) == pytest.approx(fraction * 190, abs=3)
    assert pairs_of(validation).isdisjoint(pairs_of(novel))


@pytest.mark.parametrize("which", [1, 2])
def test_a_pair_loses_both_orders_or_the_mixture_and_keeps_the_rest(which):
    scenes = split_scenes(3)
    withheld = scenes[which]

    forms = {pair: sorted(s.kind for s in withheld if set(s.sounds) == pair) for pair in pairs_of(withheld)}

    assert Counter(map(tuple, forms.values())) == {("then", "then"): 10, ("together",): 10}
    assert pairs_of(withheld) <= pairs_of(scenes[0])


@pytest.mark.parametrize("which", [1, 2])
def test_every_sound_is_withheld_equally_often_and_trained_alone(which):
    scenes = split_scenes(3)

    count = Counter(name for scene in scenes[which] for name in scene.sounds)

    assert set(count) == set(SOUNDS)
    assert len(set(count.values())) == 1
    assert {scene.sounds[0] for scene in scenes[0] if scene.kind == "alone"} == set(SOUNDS)


def test_the_split_depends_on_the_seed_only():
    assert split_scenes(5) == split_scenes(5)
    assert split_scenes(5)[1] != split_scenes(6)[1]


def test_another_scene_is_a_part_of_the_first_or_has_one_sound_exchanged():
    kinds = Counter()
    for seed in range(200):
        scene = all_scenes()[seed]
        other = other_scene(scene, np.random.default_rng(seed))

        common = set(other.sounds) & set(scene.sounds)
        assert other != scene
        if set(other.sounds) < set(scene.sounds):
            assert other.kind == "alone"
            kinds["less"] += 1
        else:
            assert other.kind == scene.kind
            assert len(common) == len(scene.sounds) - 1
            kinds["exchanged"] += 1
    assert min(kinds.values()) > 60


def test_clips_are_repeatable_and_balanced():
    train, *_ = split_scenes(0)

    clips = scene_clips(train, 1000, seed=7)
    kinds = Counter(clip.scene.kind for clip in clips)
    alone = Counter(clip.scene for clip in clips if clip.scene.kind == "alone")

    assert clips == scene_clips(train, 1000, seed=7)
    assert clips != scene_clips(train, 1000, seed=8)
    assert len({clip.seed for clip in clips}) == 1000
    assert {kind: count / 1000 for kind, count in kinds.items()} == pytest.approx(dict(KIND_SHARES))
    assert max(alone.values()) - min(alone.values()) <= 1


def test_clips_of_pairs_only_share_out_what_alone_leaves():
    *_, novel = split_scenes(0)

    kinds = Counter(clip.scene.kind for clip in scene_clips(novel, 150, seed=0))

    assert kinds == {"then": 80, "together": 70}


@pytest.mark.parametrize("num_clips", [0, 1, 2])
def test_any_number_of_clips_can_be_drawn(num_clips):
    assert len(scene_clips(all_scenes(), num_clips, seed=0)) == num_clips


def test_audio_is_repeatable_bounded_and_of_the_given_length():
    for clip in scene_clips(all_scenes(), 30, seed=1):
        samples = render_clip(clip, 1.5, 16_000)

        np.testing.assert_array_equal(samples, render_clip(clip, 1.5, 16_000))
        assert samples.dtype == np.float32
        assert samples.shape == (24_000,)
        assert np.isfinite(samples).all()
        assert 0.29 < np.abs(samples).max() < 1.0


def test_streams_of_a_clip_are_independent():
    clip = SceneClip(Scene("alone", ("dog",)), seed=4)

    assert clip.rng().random() == clip.rng(0).random()
    assert clip.rng(0).random() != clip.rng(1).random()


def test_one_after_the_other_puts_each_sound_in_its_half():
    """A high alarm and a low engine: the share of energy above 2 kHz separates the halves."""

    def treble_share(samples):
        power = np.abs(np.fft.rfft(samples)) ** 2
        return power[len(power) // 4 :].sum() / power.sum()

    for seed in range(5):
        samples = render_scene(Scene("then", ("alarm", "engine")), np.random.default_rng(seed), 4.0, 16_000)

        assert treble_share(samples[:28_000]) > 0.8
        assert treble_share(samples[36_000:]) < 0.2
