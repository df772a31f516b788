"""A user can run every YAML file below configs/: no key or value in it is unknown to the code."""

import pytest

from mats_ray.config import load_config
from mats_ray.errors import ConfigError
from tests.architecture.source import ROOT, name_of

CONFIGS = ROOT / "configs"
OVERLAYS = sorted((CONFIGS / "overlays").rglob("*.yaml"))
WHOLE = [path for path in sorted(CONFIGS.rglob("*.yaml")) if path not in OVERLAYS]
DOCUMENTED = {"toy.yaml", "mats_gpt2.yaml", "mats_llama_7b.yaml"}


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
