"""Shared by integration tests: a toy world with embedded texts, an undisturbed training run, a service."""

import pytest

from mats_ray.toy.world import ensure_training_data
from mats_ray.train.on_ray import train
from tests.service import IN_FLIGHT, TIMEOUT_SECONDS, deployed
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
    """Return the result of an undisturbed run, and its configuration."""
    return train(world), world


@pytest.fixture(scope="session")
def server(ray_cluster, model_dir, tmp_path_factory):
    """A client of the service with small limits; no request of a test may fail for a slow machine."""
    limits = {"max_upload_bytes": 600_000, "max_audio_seconds": 20, "max_requests_in_flight": IN_FLIGHT}
    timeouts = {"request_timeout_seconds": TIMEOUT_SECONDS, "retry_seconds": TIMEOUT_SECONDS}
    with deployed(tmp_path_factory.mktemp("serve"), model=str(model_dir), **limits, **timeouts) as client:
        yield client
