"""Keys and rates as a client meets them."""

import asyncio
from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from tests.unit.serving.http.test_app import CAPTIONS, CLIP, error_of


@pytest.fixture
def keyed(make_client, tmp_path):
    file = tmp_path / "keys"
    file.write_text("alice:secret-one\nbob:secret-two")
    return lambda **config: make_client(api_keys_file=str(file), **config)


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "headers", [{}, bearer("wrong-one"), bearer(""), {"Authorization": "Basic secret-one"}], ids=str
)
def test_without_a_key_nothing_answers(keyed, headers):
    client = keyed()

    for response in (
        client.post(CAPTIONS, files=CLIP, headers=headers),
        client.get("/v1/models", headers=headers),
        client.get("/metrics", headers=headers),
    ):
        assert error_of(response, 401, "unauthorized")["type"] == "authentication_error"
        assert response.headers["www-authenticate"] == "Bearer"


def test_with_a_key_it_answers_and_health_needs_none(keyed):
    client = keyed()

    assert client.post(CAPTIONS, files=CLIP, headers=bearer("secret-two")).status_code == 200
    for path in ("/health", "/", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200


OPEN_PATHS = ("/health", "/readyz", "/", "/docs", "/openapi.json", "/page/app.js", "/page/none")
CLOSED_PATHS = (
    "/v1/models",
    "/v1/models/toy-0123",
    "/metrics",
    "/nothing",
    "/v1/",
    "/health/",
    "//v1/models",
    "//metrics",
    "/./metrics",
    "/page/../../metrics/",
    "/V1/models",
    "/%76%31/models",
    "/%6detrics",
    "/metrics%00",
    "/metrics%0a",
    "/v1%2fmodels",
    "/v1/models;x=1",
    "/health/../metrics",
    "/health%2f..%2fmetrics",
)
PREFIXES = ("", "/mats", "/v1", "/health", "/page", "/a/b")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_below_any_prefix_all_but_the_open_routes_need_a_key(keyed, prefix):
    client = keyed(root_path=prefix)
    for path in CLOSED_PATHS:
        for method in ("GET", "HEAD", "OPTIONS", "POST", "DELETE", "BREW"):
            status = status_of(client.app, method, path, root_path=prefix)
            part = path.startswith("/page/")  # sent so, it is a part that the page does not have
            assert status == 401 or (part and status in {404, 405}), (method, path, status)
    assert client.post(f"{prefix}{CAPTIONS}", files=CLIP).status_code == 401
    for path in OPEN_PATHS:
        assert client.get(f"{prefix}{path}").status_code in {200, 404, 503}, path


@pytest.mark.parametrize("prefix", PREFIXES)
def test_with_a_key_it_answers_below_any_prefix(keyed, prefix):
    client = keyed(root_path=prefix)

    assert client.post(f"{prefix}{CAPTIONS}", files=CLIP, headers=bearer("secret-two")).status_code == 200
    assert client.get(f"{prefix}/metrics", headers=bearer("secret-two")).status_code == 200
    error_of(client.get(f"{prefix}/nothing", headers=bearer("secret-two")), 404, "route_not_found")


def status_of(app, method, path, *, root_path):
    """Call an app as a server does: no client in between normalises the path."""
    raw = f"{root_path}{path}"
    scope = {
        "type": "http",
        "method": method,
        "path": unquote(raw),
        "raw_path": raw.encode(),
        "root_path": root_path,
        "query_string": b"",
        "headers": [(b"host", b"test")],
        "server": ("test", 80),
        "scheme": "http",
    }
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"]


def test_every_route_but_the_open_ones_is_closed(keyed):
    client = keyed()
    routes = client.get("/openapi.json").json()["paths"]

    open_ = {
        path
        for path, methods in routes.items()
        for method in methods
        if client.request(method, path.replace("{model_id}", "x")).status_code != 401
    }

    assert open_ == {"/health", "/readyz"}


def test_mounted_in_another_app_it_is_closed_too(keyed):
    outer = FastAPI()
    outer.mount("/mats", keyed().app)
    client = TestClient(outer)

    error_of(client.get("/mats/v1/models"), 401, "unauthorized")
    error_of(client.get("/mats/metrics"), 401, "unauthorized")
    assert client.get("/mats/v1/models", headers=bearer("secret-two")).status_code == 200
    assert client.get("/mats/health").status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/nothing"])
def test_there_are_no_websockets(keyed, path):
    with pytest.raises(WebSocketDisconnect), keyed().websocket_connect(path):
        pass


def test_a_route_that_is_not_there_is_401_without_a_key_and_404_with_one(keyed):
    client = keyed()

    error_of(client.get("/v1/secret-plans"), 401, "unauthorized")
    error_of(client.get("/v1/secret-plans", headers=bearer("secret-one")), 404, "route_not_found")


def test_a_key_over_its_rate_is_limited_and_the_other_is_not(keyed):
    client = keyed(requests_per_minute=2)

    replies = [client.post(CAPTIONS, files=CLIP, headers=bearer("secret-one")) for _ in range(3)]

    assert [reply.status_code for reply in replies] == [200, 200, 429]
    error_of(replies[2], 429, "rate_limited")
    assert 1 <= int(replies[2].headers["retry-after"]) <= 30
    assert client.post(CAPTIONS, files=CLIP, headers=bearer("secret-two")).status_code == 200
