"""Training clips put together as mel power: near enough to what the front end hears of rendered ones."""

import numpy as np
import pytest
import torch

from mats_ray.config.toy import ToyConfig
from mats_ray.models.clap.frontend import LogMel
from mats_ray.toy.clap import feature_extractor
from mats_ray.toy.scenes import Scene, SceneClip, render_clip
from mats_ray.toy.sounds import SOUNDS
from mats_ray.toy.takes import Takes

TOY = ToyConfig(clap_takes=4)
FRONT_END = LogMel.from_settings(feature_extractor(TOY).to_dict())


@pytest.fixture(scope="module")
def takes():
    return Takes.render(FRONT_END, TOY, seed=0)


def mean_levels(mels_NFM, half=slice(None)):
    """Mean level of each band (M,), the clip's own level taken out."""
    mean_M = mels_NFM[:, half].mean(dim=(0, 1))
    return mean_M - mean_M.mean()


def rendered(scene, count):
    clips = [SceneClip(scene, seed) for seed in range(count)]
    return FRONT_END(torch.from_numpy(np.stack([render_clip(clip, 4, 16_000) for clip in clips])))


def composed(takes, scene, count):
    return takes.log_mels([SceneClip(scene, seed) for seed in range(count)])


def test_there_are_as_many_takes_of_each_sound_as_asked_for(takes):
    assert takes.power_SNFM.shape == (len(SOUNDS), 4, 126, 32)
    assert takes.peak_SN.shape == takes.gain_SN.shape == (len(SOUNDS), 4)
    assert ((takes.peak_SN >= 0.5) & (takes.peak_SN <= 0.9)).all()


@pytest.mark.parametrize(
    "scene",
    [
        Scene("alone", ("dog",)),
        Scene("then", ("siren", "rain")),
        Scene("together", ("bell", "wind")),
        Scene("together", ("bird", "engine")),
    ],
    ids=str,
)
def test_a_composed_clip_looks_like_a_rendered_one(takes, scene):
    one_NFM, other_NFM = composed(takes, scene, 12), rendered(scene, 12)

    assert one_NFM.shape == other_NFM.shape
    for half in (slice(0, 55), slice(70, None)):
        difference_M = (mean_levels(one_NFM, half) - mean_levels(other_NFM, half)).abs()
        assert difference_M.mean() < 3  # dB; takes of one sound differ by as much
    assert abs(one_NFM.amax(dim=(1, 2)).mean() - other_NFM.amax(dim=(1, 2)).mean()) < 6  # dB


def test_one_after_the_other_keeps_the_order(takes):
    first_NFM = composed(takes, Scene("then", ("siren", "rain")), 6)
    swapped_NFM = composed(takes, Scene("then", ("rain", "siren")), 6)

    def distance(one_M, other_M):
        return float((one_M - other_M).abs().mean())

    begin_M = mean_levels(first_NFM, slice(0, 50))
    assert distance(begin_M, mean_levels(swapped_NFM, slice(75, None))) < distance(
        begin_M, mean_levels(first_NFM, slice(75, None))
    )


def test_a_clip_follows_from_its_seed_and_another_is_another(takes):
    scene = Scene("together", ("cat", "rain"))
    one_NFM, again_NFM = composed(takes, scene, 3), composed(takes, scene, 3)

    assert torch.equal(one_NFM, again_NFM)
    assert not torch.equal(one_NFM[0], one_NFM[1])
