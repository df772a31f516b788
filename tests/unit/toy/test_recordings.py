"""Training clips put together as mel power: close to the front end's output for rendered ones."""

import numpy as np
import pytest
import torch

from mats_ray.config.toy import ToyConfig
from mats_ray.models.clap.frontend import LogMel
from mats_ray.toy.clap import feature_extractor
from mats_ray.toy.recordings import Recordings
from mats_ray.toy.scenes import Scene, SceneClip, render_clip
from mats_ray.toy.sounds import SOUNDS

TOY = ToyConfig(clap_takes=4)
FRONT_END = LogMel.from_settings(feature_extractor(TOY).to_dict())


@pytest.fixture(scope="module")
def recordings():
    return Recordings.render(FRONT_END, TOY, seed=0)


def mean_levels(mels_NFM, half=slice(None)):
    """Mean level of each band (M,), without the clip's own level."""
    mean_M = mels_NFM[:, half].mean(dim=(0, 1))
    return mean_M - mean_M.mean()


def rendered(scene, count):
    clips = [SceneClip(scene, seed) for seed in range(count)]
    return FRONT_END(torch.from_numpy(np.stack([render_clip(clip, 4, 16_000) for clip in clips])))


def composed(recordings, scene, count):
    return recordings.log_mels([SceneClip(scene, seed) for seed in range(count)])


def test_there_are_as_many_recordings_of_each_sound_as_configured(recordings):
    assert recordings.power_SNFM.shape == (len(SOUNDS), 4, 126, 32)
    assert recordings.peak_SN.shape == recordings.gain_SN.shape == (len(SOUNDS), 4)
    assert ((recordings.peak_SN >= 0.5) & (recordings.peak_SN <= 0.9)).all()


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
def test_a_composed_clip_looks_like_a_rendered_one(recordings, scene):
    one_NFM, other_NFM = composed(recordings, scene, 12), rendered(scene, 12)

    assert one_NFM.shape == other_NFM.shape
    for half in (slice(0, 55), slice(70, None)):
        difference_M = (mean_levels(one_NFM, half) - mean_levels(other_NFM, half)).abs()
        assert difference_M.mean() < 3  # dB; recordings of one sound differ by as much
    assert abs(one_NFM.amax(dim=(1, 2)).mean() - other_NFM.amax(dim=(1, 2)).mean()) < 6  # dB


def test_one_after_the_other_keeps_the_order(recordings):
    first_NFM = composed(recordings, Scene("then", ("siren", "rain")), 6)
    swapped_NFM = composed(recordings, Scene("then", ("rain", "siren")), 6)

    def distance(one_M, other_M):
        return float((one_M - other_M).abs().mean())

    begin_M = mean_levels(first_NFM, slice(0, 50))
    assert distance(begin_M, mean_levels(swapped_NFM, slice(75, None))) < distance(
        begin_M, mean_levels(first_NFM, slice(75, None))
    )


def test_a_clip_follows_from_its_seed_and_another_is_another(recordings):
    scene = Scene("together", ("cat", "rain"))
    one_NFM, again_NFM = composed(recordings, scene, 3), composed(recordings, scene, 3)

    assert torch.equal(one_NFM, again_NFM)
    assert not torch.equal(one_NFM[0], one_NFM[1])
