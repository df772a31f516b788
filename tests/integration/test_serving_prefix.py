"""The service below a ``route_prefix``, behind HAProxy and behind Serve's own proxy."""

import os
import re
import socket
import subprocess
import sys

import httpx2 as httpx
import pytest

from tests.service import HEADERS, KEY, PREFIX, ROOT, free_port, sound, wait_until_ready

pytestmark = pytest.mark.ray

SERVER = """
import os, sys
model, keys, port = sys.argv[1:]
import ray
from ray import serve
from ray.serve.config import HTTPOptions
from mats_ray.config.serve import ServeConfig
from mats_ray.serving.on_ray.deployments import build_app
ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
serve.start(http_options=HTTPOptions(host="127.0.0.1", port=int(port)))
serve.run(build_app(ServeConfig(model=model, api_keys_file=keys)), route_prefix="/mats")
print("ready", flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.fixture(scope="module", params=["HAProxy", "Serve's proxy"])
def client(request):
    """A client without a key."""
    address = request.getfixturevalue("haproxy") if request.param == "HAProxy" else None
    with httpx.Client(base_url=address or request.getfixturevalue("server").base_url, timeout=60) as client:
        wait_until_ready(client)
        yield client


@pytest.fixture(scope="module")
def haproxy(model_dir, tmp_path_factory):
    """An address behind HAProxy, in a process of its own: the proxy is chosen before Ray is imported."""
    keys, port = tmp_path_factory.mktemp("prefix") / "keys", free_port()
    keys.write_text(KEY)
    environment = os.environ | {"RAY_SERVE_ENABLE_HA_PROXY": "1"}
    for name in ("RAY_SERVE_HAPROXY_STATS_PORT", "RAY_SERVE_HAPROXY_METRICS_PORT"):
        environment[name] = str(free_port())
    command = [sys.executable, "-c", SERVER, str(model_dir), str(keys), str(port)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=ROOT,
    ) as process:  # fmt: skip
        assert any(line == "ready\n" for line in process.stdout)
        yield f"http://127.0.0.1:{port}{PREFIX}"
        process.stdin.close()


@pytest.mark.parametrize("prefix", [PREFIX, PREFIX + "/", "//mats", "/mats/../mats", "/%6dats", "/MATS", ""])
@pytest.mark.parametrize(
    "path", ["/v1/models", "/metrics", "//metrics", "/%6detrics", "/health/../metrics", "/metrics/", "/none"]
)
def test_without_a_key_nothing_but_the_open_routes_answers(client, prefix, path):
    """As raw bytes: a client would normalise the path."""
    status, body = get(client.base_url.port, prefix + path)

    assert status in {401, 404}
    assert b"tiny" not in body
    assert b"mats_requests_total" not in body


def test_with_a_key_it_answers(client):
    files = {"file": ("a.wav", sound(0, "wav"))}

    assert client.post("/v1/audio/captions", files=files).status_code == 401
    assert client.post("/v1/audio/captions", files=files, headers=HEADERS).json()["text"]
    assert client.get("/v1/models", headers=HEADERS).json()["data"][0]["id"].startswith("tiny")
    assert b"mats_requests_total" in client.get("/metrics", headers=HEADERS).content
    wrong = client.post("/v1/chat/completions", files=files, headers=HEADERS).json()["error"]
    assert wrong["code"] == "not_json"
    wrong = client.post("/v1/audio/captions", json={}, headers=HEADERS).json()["error"]
    assert wrong["code"] == "not_multipart"


def test_the_pages_links_lead_to_its_parts(client):
    bare = httpx.get(str(client.base_url).rstrip("/"), follow_redirects=True)
    assert bare.status_code == 200
    for page in (bare, client.get("/docs")):
        links = re.findall(r'(?:href|src)="([^"]+)"', page.text)
        assert len(links) >= 4
        for link in links:
            assert httpx.get(page.url.join(link)).status_code == 200, link
    assert client.get("/openapi.json").json()["servers"] == [{"url": PREFIX}]
    assert client.get("/health").status_code == 200


def get(port, path):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        reply = b""
        while data := connection.recv(2**16):
            reply += data
    head, _, body = reply.partition(b"\r\n\r\n")
    return int(head.split()[1]), body
