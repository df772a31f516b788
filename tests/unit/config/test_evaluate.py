"""The configuration of an evaluation: every benchmark and variant has one folder."""

import pytest

from mats_ray.config.base import validate
from mats_ray.config.evaluate import EvaluateConfig
from mats_ray.errors import ConfigError

ONE = {"name": "esc50", "annotations": "a.csv"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"benchmarks": []}, "benchmarks = [] is not allowed"),
        ({"benchmarks": [ONE, ONE]}, "benchmarks names 'esc50' twice; each has one folder"),
        ({"variants": [{"name": "a"}, {"name": "a"}]}, "variants names 'a' twice; each has one folder"),
        ({"variants": [{"name": "../a"}]}, "variants.0.name = '../a' is not allowed"),
        (
            {"benchmarks": [ONE | {"answers": "b.csv"}], "variants": [{"name": "a"}]},
            "variants are of a model, and a benchmark has a file of answers",
        ),
        (
            {"variants": [{"name": "a", "bridge": "spectral", "santa": {"mix": 0.5}}]},
            "variant 'a' has numbers of Santa and the bridge 'spectral'",
        ),
        (
            {"variants": [{"name": "a", "projection": {"temperature": 0.1}}]},
            "variant 'a' has numbers of projection; name it as its bridge, too",
        ),
        ({"caption": {"window": "clap"}}, "caption.window gives a file several answers"),
        ({"prompt": "mine"}, "prompt = 'mine' is not allowed"),
        ({"benchmarks": [ONE | {"split": "x"}]}, "unknown key benchmarks.0.split"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(change, message):
    with pytest.raises(ConfigError, match="x: ") as refused:
        validate(EvaluateConfig, {"out": "o", "benchmarks": [ONE]} | change, where="x")

    assert message in str(refused.value)


def test_the_minimum_is_a_folder_and_a_benchmark():
    config = validate(EvaluateConfig, {"out": "o", "benchmarks": [ONE]}, where="x")

    assert (config.prompt, config.embedder) == ("upstream_eval", "clap")
