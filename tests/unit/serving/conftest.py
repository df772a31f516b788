"""The app with fakes at its edges: no model, no Ray, no codec."""

import pytest
from starlette.testclient import TestClient

from mats_ray.config.serve import ServeConfig
from mats_ray.serving.http.app import make_app
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

    def make(*, root_path="", **config):
        limits = ServeConfig(**({"retry_seconds": 0} | config))
        service = AudioService(encoder, answerer, decoder=FakeDecoder(), limits=limits)
        clients.append(TestClient(make_app(service, limits), root_path=root_path).__enter__())
        return clients[-1]

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_client):
    return make_client()


@pytest.fixture
def prefixed(make_client):
    """Return a client of a service below /mats, as route_prefix and --root-path put it there."""
    return make_client(root_path="/mats")
