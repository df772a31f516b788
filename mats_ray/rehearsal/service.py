"""The service of a rehearsal: ``serve/config.yaml`` with another model and port, and one question to it."""

import base64
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mats_ray.config.serve import ServeConfig
from mats_ray.errors import RehearsalError

START_SECONDS = 1_800.0
"""Time in which a service must be ready: seven billion weights are read from disk by each replica."""
POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Service:
    """A deployment to be started."""

    path: Path
    """Its configuration file."""
    url: str


def serve_config(shipped: Path, target: Path, *, model: str, rehearsed: ServeConfig) -> Service:
    """Write the shipped configuration with another model, devices, time limit and a free port.

    Args:
        shipped: ``serve/config.yaml``.
        target: Where to.
        model: Model directory.
        rehearsed: Section ``serve`` as rehearsed: its time limit of a request and its GPUs are taken.
    """
    tree: Any = yaml.safe_load(shipped.read_text("utf-8"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    arguments = tree["applications"][0]["args"]
    timeout_seconds = rehearsed.request_timeout_seconds
    longer = timeout_seconds - arguments["request_timeout_seconds"]
    tree["http_options"]["port"] = port
    tree["http_options"]["request_timeout_s"] += longer  # Serve's own limit stays above the service's
    arguments |= {"model": model, "rehearsal": True, "request_timeout_seconds": timeout_seconds}
    arguments["encoder"]["gpus"] = rehearsed.encoder.gpus
    arguments["answerer"]["gpus"] = rehearsed.answerer.gpus
    target.write_text(yaml.safe_dump(tree, sort_keys=False), "utf-8")
    return Service(target, f"http://127.0.0.1:{port}")


def ask_service(url: str, clip: Path, question: str, *, alive: Callable[[], bool]) -> str:
    """Wait for the service, ask one question about a clip, return the answer.

    Args:
        url: Of the service.
        clip: WAV file.
        question: The question.
        alive: Whether the service's process still runs.

    Raises:
        RehearsalError: It ended, does not become ready, or answers with an error.
    """
    _await_ready(url, alive)
    sound = base64.b64encode(clip.read_bytes()).decode()
    audio = {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}}
    content = [audio, {"type": "text", "text": question}]
    body = {"model": "mats", "messages": [{"role": "user", "content": content}]}
    request = urllib.request.Request(  # noqa: S310  (http, on this machine)
        f"{url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=START_SECONDS) as response:  # noqa: S310
            return json.load(response)["choices"][0]["message"]["content"]
    except urllib.error.HTTPError as error:
        raise RehearsalError(f"the service answered {error.code}: {error.read(2_000).decode()}") from error
    except OSError as error:
        raise RehearsalError(f"the service at {url} does not answer: {error}") from error


def _await_ready(url: str, alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if not alive():
            raise RehearsalError("the service ended before it was ready; see its log")
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=10):  # noqa: S310
                return
        except OSError:
            time.sleep(POLL_SECONDS)
    raise RehearsalError(f"the service at {url} was not ready within {START_SECONDS:.0f} s")
