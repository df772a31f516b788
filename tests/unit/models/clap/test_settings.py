"""A front end that does not fit the audio tower is refused before it gives wrong numbers."""

import json

import pytest
from transformers import ClapAudioConfig

from mats_ray.errors import ModelError
from mats_ray.models.clap.laion import front_end
from mats_ray.models.clap.msclap import FRONT_END
from mats_ray.models.clap.settings import MelSettings, check_front_end, check_settings, read_front_end


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


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"hop_length": 0}, "hop_length is 0, not a number above 0"),
        ({"sampling_rate": "fast"}, "sampling_rate is fast, not a number"),
        ({"fft_window_size": 1024.5}, r"fft_window_size is 1024\.5, not a number"),
        ({"max_length_s": float("nan")}, "max_length_s is nan, not a number"),
        ({"max_length_s": 1e12}, "max_length_s is 1000000000000.0, not a number"),
        ({"feature_size": True}, "feature_size is True, not a number"),
        ({"frequency_max": 10}, "frequency_min is not below frequency_max"),
        ({"truncation": "none"}, "truncation is none, not one of rand_trunc, fusion"),
        ({"padding": ["repeat"]}, "padding is .*, not one of repeatpad, repeat, pad"),
        ({"resampler": "linear"}, "resampler is linear, not one of soxr, sinc"),
    ],
)
def test_a_value_that_cannot_be_one_is_named(change, complaint):
    with pytest.raises(ModelError, match=f"^F: {complaint}"):
        check_front_end(front_end(fusion=False) | change, source="F")


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("other.json", {}, "no preprocessor_config.json"),
        (
            "processor_config.json",
            {"image_processor": {}},
            "processor_config.json holds no feature_extractor",
        ),
        ("processor_config.json", [], "must hold an object"),
        ("preprocessor_config.json", [], "must hold an object"),
    ],
)
def test_a_directory_without_a_front_end_is_named(tmp_path, file, content, complaint):
    (tmp_path / file).write_text(json.dumps(content))

    with pytest.raises(ModelError, match=complaint):
        read_front_end(tmp_path)


def test_plain_transformers_settings_mean_soxr_and_no_quantisation():
    settings = front_end(fusion=False)
    del settings["quantize_int16"]

    clips = MelSettings.of(settings)

    assert (clips.window_samples, clips.resampler, clips.quantize_int16) == (480_000, "soxr", False)
    assert MelSettings.of(settings, quantize_int16=True).quantize_int16
