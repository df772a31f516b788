"""The app with fakes at its edges: no model, no Ray, no codec."""

import pytest
from starlette.testclient import TestClient

from mats_ray.config.infer import ServeConfig
from mats_ray.serving.app import make_app
from mats_ray.serving.service import AudioService
from tests.unit.serving.fakes import FakeAnswerer, FakeDecoder, FakeEncoder


@pytest.fixture
def encoder():
    return FakeEncoder()


@pytest.fixture
def answerer():
    return FakeAnswerer()


@pytest.fixture
def make_client(encoder, answerer):
    """Return a started client for any configuration."""
    clients = []

    def make(**config):
        limits = ServeConfig(**({"retry_seconds": 0} | config))
        service = AudioService(encoder, answerer, decoder=FakeDecoder(), limits=limits)
        clients.append(TestClient(make_app(service, limits)).__enter__())
        return clients[-1]

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_client):
    return make_client()
