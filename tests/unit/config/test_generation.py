"""Section ``generation``: the profiles are upstream's."""

import pytest
from transformers import GenerationConfig as TransformersGenerationConfig

from mats_ray.config.generation import PROFILES, GenerationConfig
from tests.unit.config.refusals import refusal


def test_the_paper_profile_generates_as_upstream_does():
    paper = {"num_beams": 4, "no_repeat_ngram_size": 2, "repetition_penalty": 2.0}

    assert PROFILES["paper"].as_kwargs() == paper
    assert GenerationConfig() == GenerationConfig(profile="paper", max_new_tokens=200)


def test_profiles_are_read_only():
    with pytest.raises(AttributeError):
        PROFILES["paper"].num_beams = 8
    with pytest.raises(TypeError):
        PROFILES["mine"] = PROFILES["paper"]


@pytest.mark.parametrize("profile", PROFILES)
def test_transformers_accepts_every_argument_of_a_profile(profile):
    TransformersGenerationConfig(**PROFILES[profile].as_kwargs()).validate(strict=True)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            GenerationConfig,
            "profile=slow",
            "profile = 'slow' is not allowed: input should be 'paper' or 'fast'",
        ),
        (GenerationConfig, "max_new_tokens=0", "max_new_tokens = 0 is not allowed: input should be greater"),
        (
            GenerationConfig,
            "temperature=1",
            "unknown key temperature = 1; allowed here: max_new_tokens, prof",
        ),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(kind, change, message):
    assert refusal(kind, change).startswith(message)
