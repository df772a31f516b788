"""Section ``data``: short forms are read, numbers and weights are checked."""

import pytest

from mats_ray.config import RunConfig
from mats_ray.config.data import DataConfig, MixtureConfig, SourceConfig
from mats_ray.errors import ConfigError
from tests.unit.config.refusals import refusal


def test_one_companion_needs_no_list():
    entry = SourceConfig.model_validate(
        {"source": "a", "path": "b", "companions": {"names": "n.csv", "captions": ["c"]}}
    )

    assert entry.companions == {"names": ("n.csv",), "captions": ("c",)}


def test_embed_online_is_short_for_a_mode():
    assert DataConfig.model_validate({"embed": "online"}).embed.mode == "online"
    assert DataConfig().embed.mode == "stored"


def test_weights_that_would_be_ignored_are_refused():
    with pytest.raises(ValueError, match="weights need by: source"):
        MixtureConfig.model_validate({"weights": {"clotho": 1}})
    assert MixtureConfig.model_validate({"by": "source", "weights": {"clotho": 1}}).weights == {"clotho": 1.0}


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (float("nan"), "should be a finite number"),
        (float("inf"), "should be a finite number"),
        (0, "should be greater than 0"),
        (-1, "should be greater than 0"),
        (True, "should be numbers"),
        ("much", "should be a valid number"),
    ],
)
def test_a_weight_that_is_no_positive_number_is_one_line(weight, reason):
    base = RunConfig.model_validate({"model": {"clap": {"ref": "x"}, "llm": {"path": "x"}}})

    with pytest.raises(ConfigError, match=rf"data\.mixture\.weights.* is not allowed: .*{reason}") as caught:
        base.replace(data={"mixture": {"by": "source", "weights": {"clotho": weight, "macs": 1}}})
    assert "\n" not in str(caught.value)


def test_a_typo_in_a_source_names_what_is_allowed():
    base = RunConfig.model_validate({"model": {"clap": {"ref": "x"}, "llm": {"path": "x"}}})

    with pytest.raises(ConfigError, match="splits"):
        base.replace(data={"prepare": {"sources": [{"source": "a", "path": "b", "splits": ["dev"]}]}})


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (DataConfig, "embed.num_partitions=0", "embed.num_partitions = 0 is not allowed: input should be gr"),
        (
            DataConfig,
            "embed.gpus_per_actor=-1",
            "embed.gpus_per_actor = -1 is not allowed: must be a number from 0 to 1",
        ),
        (
            DataConfig,
            "triplets=[a, b]",
            "triplets = ['a', 'b'] is not allowed: input should be a valid string",
        ),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(kind, change, message):
    assert refusal(kind, change).startswith(message)
