"""A user can run every YAML file below configs/: no key or value in it is unknown to the code."""

import pytest

from mats_ray.config import load_config
from mats_ray.config.base import read_yaml, validate
from mats_ray.config.evaluate import EvaluateConfig
from mats_ray.errors import ConfigError
from mats_ray.evaluate.benchmark import find_benchmark
from tests.architecture.source import ROOT, name_of

CONFIGS = ROOT / "configs"
OVERLAYS = sorted((CONFIGS / "overlays").rglob("*.yaml"))
EVALUATIONS = sorted((CONFIGS / "evaluate").rglob("*.yaml"))
WHOLE = [path for path in sorted(CONFIGS.rglob("*.yaml")) if path not in OVERLAYS + EVALUATIONS]
DOCUMENTED = {"toy.yaml", "mats_gpt2.yaml", "mats_llama_7b.yaml", "mats_next.yaml"}


def test_the_documented_configs_are_there():
    assert {path.name for path in WHOLE} >= DOCUMENTED


@pytest.mark.parametrize("path", WHOLE, ids=name_of)
def test_a_config_loads(path):
    load_config(path)


@pytest.mark.parametrize("path", OVERLAYS, ids=name_of)
def test_an_overlay_loads_over_some_config(path):
    refusals = {}
    for base in WHOLE:
        try:
            load_config([base, path])
        except ConfigError as error:
            refusals[base.name] = str(error)

    assert len(refusals) < len(WHOLE), refusals


@pytest.mark.parametrize("path", EVALUATIONS, ids=name_of)
def test_an_evaluation_loads_and_names_benchmarks_that_are_there(path):
    config = validate(EvaluateConfig, read_yaml(path), where=path.name)

    for one in config.benchmarks:
        benchmark = find_benchmark(one.name)
        assert one.audio or not benchmark.files


def test_the_papers_evaluation_has_its_sixteen_benchmarks():
    config = validate(EvaluateConfig, read_yaml(CONFIGS / "evaluate" / "paper.yaml"), where="paper.yaml")

    names = [one.name for one in config.benchmarks]
    assert len(names) == 16
    assert all(any("MATS-LLaMA" in rows for rows in find_benchmark(name).results.values()) for name in names)
