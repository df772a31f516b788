"""Helpers for the service: the shipped configuration deployed, a client of it, sounds to send."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import numpy as np
import yaml
from click.testing import CliRunner
from ray import serve
from ray.serve.scripts import cli as serve_cli

from tests.sounds import sndfile_bytes

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "serve" / "config.yaml"
PREFIX, KEY, IN_FLIGHT = "/mats", "a-key-of-ours", 12
HEADERS = {"Authorization": f"Bearer {KEY}"}
TIMEOUT_SECONDS = 100
"""Time that a request, or a condition, may take before a test fails."""


class Client(httpx.Client):
    """Sends the key; can also deploy the application again, with other arguments."""

    deploy: Callable[..., None]


@contextmanager
def deployed(folder: Path, **args) -> Iterator[Client]:
    """Deploy ``serve/config.yaml`` on the cluster of this process, below a prefix and with a key.

    One replica of each deployment, so that it is certain which process answers.
    """
    config = yaml.safe_load(CONFIG.read_text())
    port = config["http_options"]["port"] = free_port()
    application = config["applications"][0]
    application["route_prefix"] = PREFIX
    for deployment in ("encoder", "answerer"):
        application["args"][deployment]["autoscaling"]["max_replicas"] = 1
    (folder / "keys").write_text(KEY)

    def deploy(**changes) -> None:
        application["args"] |= changes
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        command = ["run", "--non-blocking", "--app-dir", str(ROOT), str(folder / "config.yaml")]
        result = CliRunner().invoke(serve_cli, command)
        assert result.exit_code == 0, result.output

    deploy(api_keys_file=str(folder / "keys"), **args)
    with Client(
        base_url=f"http://127.0.0.1:{port}{PREFIX}", headers=HEADERS, timeout=TIMEOUT_SECONDS
    ) as client:
        wait_until_ready(client)
        client.deploy = deploy
        yield client
    serve.shutdown()


def wait_until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            poll(lambda: client.get("/readyz"), 200, seconds=deadline - time.monotonic())
        except httpx.TransportError:
            assert time.monotonic() < deadline
        else:
            return


def poll(send: Callable[[], httpx.Response], status: int, *, seconds: float = 60) -> httpx.Response:
    """Send requests until the status comes."""
    deadline = time.monotonic() + seconds
    while (response := send()).status_code != status:
        assert time.monotonic() < deadline, response.text
    return response


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def sound(number: int, kind: str) -> bytes:
    """Make a tone with noise on it, different for every number."""
    rate = [16_000, 8_000, 22_050, 44_100, 16_000][number]
    seconds = [1.0, 2.5, 0.3, 1.7, 6.0][number]
    times = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(number).normal(size=len(times))
    samples = 0.3 * np.sin(2 * np.pi * 200 * (number + 1) ** 1.5 * times) + 0.05 * number * noise
    return encoded(samples, rate, kind)


def encoded(samples: np.ndarray, rate: int, kind: str) -> bytes:
    subtype = {"wav": "FLOAT", "ogg": "VORBIS"}[kind]
    return sndfile_bytes(samples.astype(np.float32), rate, format=kind, subtype=subtype)
