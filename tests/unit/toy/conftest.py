"""One toy world in miniature, built once: two recordings of each sound, four steps of training each."""

import pytest

from mats_ray.models.clap import load_clap
from mats_ray.toy.world import ensure_world
from tests.toy import tiny_config

SMALL = {"clap_takes": 2, "clap_steps": 4, "llm_steps": 4, "num_texts": 60, "num_test_clips": 12}


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    config = tiny_config(tmp_path_factory.mktemp("toy"), toy=SMALL)
    ensure_world(config)
    return config


@pytest.fixture(scope="session")
def clap(world):
    return load_clap(world.clap_ref)
