"""How the model is used: decoding profiles are upstream's, shares and sizes are checked."""

import pytest
from transformers import GenerationConfig as TransformersGenerationConfig

from mats_ray.config.base import override, validate
from mats_ray.config.infer import (
    DECODING,
    AutoscalingConfig,
    CaptionConfig,
    DataConfig,
    GenerationConfig,
    ServeConfig,
)
from mats_ray.errors import ConfigError


def test_the_paper_profile_decodes_as_upstream_does():
    assert DECODING["paper"] == {"num_beams": 4, "no_repeat_ngram_size": 2, "repetition_penalty": 2.0}
    assert GenerationConfig() == GenerationConfig(profile="paper", max_new_tokens=200)


@pytest.mark.parametrize("profile", DECODING)
def test_transformers_knows_every_argument_of_a_profile(profile):
    TransformersGenerationConfig(**DECODING[profile]).validate(strict=True)


@pytest.mark.parametrize(
    ("kind", "change", "said"),
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
        (DataConfig, "embed.num_partitions=0", "embed.num_partitions = 0 is not allowed: input should be gr"),
        (
            DataConfig,
            "embed.gpus_per_actor=-1",
            "embed.gpus_per_actor = -1 is not allowed: input should be gr",
        ),
        (
            DataConfig,
            "triplets=[a, b]",
            "triplets = ['a', 'b'] is not allowed: input should be a valid string",
        ),
        (CaptionConfig, "max_error_fraction=1.5", "max_error_fraction = 1.5 is not allowed: input should be"),
        (AutoscalingConfig, "min_replicas=3", "min_replicas=3 is more than max_replicas=2"),
        (
            ServeConfig,
            "encoder.autoscaling.min_replicas=9",
            "encoder.autoscaling: min_replicas=9 is more than",
        ),
        (ServeConfig, "ingress.cpu=1", "unknown key ingress.cpu = 1; allowed here: autoscaling, cpus, gpus"),
        (ServeConfig, "generation.profile=x", "generation.profile = 'x' is not allowed: input should be"),
        (
            ServeConfig,
            "request_timeout_seconds=0",
            "request_timeout_seconds = 0 is not allowed: input should",
        ),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(kind, change, said):
    with pytest.raises(ConfigError) as caught:
        validate(kind, override(change), where="here")

    assert str(caught.value).startswith(f"here: {said}")
