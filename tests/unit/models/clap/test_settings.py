"""A front end that does not fit the audio tower is refused before it gives wrong numbers."""

import pytest
from transformers import ClapAudioConfig

from mats_ray.errors import ModelError
from mats_ray.models.clap.laion import front_end
from mats_ray.models.clap.msclap import FRONT_END
from mats_ray.models.clap.settings import ClipSettings, check_settings


def test_the_published_front_ends_fit_their_towers():
    check_settings(front_end(fusion=False), ClapAudioConfig(), source="F")
    check_settings(front_end(fusion=True), ClapAudioConfig(enable_fusion=True), source="F")
    check_settings(FRONT_END, ClapAudioConfig(), source="F")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"feature_size": 80}, "80 mel bands"),
        ({"hop_length": 240}, "2001 frames"),
        ({"truncation": "fusion"}, "enable_fusion=False"),
    ],
)
def test_what_does_not_fit_is_named(change, complaint):
    with pytest.raises(ModelError, match=complaint):
        check_settings(front_end(fusion=False) | change, ClapAudioConfig(), source="F")


def test_missing_settings_are_named():
    with pytest.raises(ModelError, match=r"F lacks .*hop_length, .*sampling_rate"):
        check_settings({"feature_size": 64}, ClapAudioConfig(), source="F")


def test_plain_transformers_settings_mean_soxr_and_no_quantisation():
    settings = front_end(fusion=False)
    del settings["quantize_int16"]

    clips = ClipSettings.of(settings)

    assert (clips.window_samples, clips.resampler, clips.quantize_int16) == (480_000, "soxr", False)
    assert ClipSettings.of(settings, quantize_int16=True).quantize_int16
