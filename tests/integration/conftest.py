"""Shared by integration tests: one toy world with embedded texts, and one training run nobody disturbed."""

import pytest

from mats_ray.toy.world import ensure_training_data
from mats_ray.train.on_ray import train
from tests.toy import tiny_config


@pytest.fixture(scope="session")
def world(ray_cluster, tmp_path_factory):
    """The configuration of two workers on a toy world with embedded texts and memory."""
    config = tiny_config(tmp_path_factory.mktemp("training"))
    ensure_training_data(config)
    held_out = {"data": config.embedded_path, "num_rows": 12, "num_samples": 2, "every_steps": 20}
    return config.replace(train={"validation": held_out})


@pytest.fixture(scope="session")
def unbroken(world):
    """The run's result, and its configuration."""
    return train(world), world
