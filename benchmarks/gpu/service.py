"""The service on the card under clients: requests/s and time to the first token, against one at a time.

Every client asks again as soon as it has an answer, over a stream, about clips of its own. The peer is the
same service with one place in its answering engine. Without Ray the app runs under uvicorn, in one process;
where there is Ray, ``mats serve`` is measured, too.
"""

import asyncio
import base64
import importlib.util
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np

from benchmarks.gpu.parts import Outcome
from benchmarks.gpu.sizes import Size
from benchmarks.gpu.stand_in import model_directory, sound_files, sounds_folder

sys.path.insert(0, str(Path(__file__).parents[1]))
from serve_load import serving

UVICORN, MATS_SERVE = ("-m", "benchmarks.gpu.server"), ("-m", "mats_ray", "serve")
TOGETHER, ALONE = "uvicorn, one process", "uvicorn, one answer at a time"


@dataclass
class Load:
    """What clients saw."""

    sent: int = 0
    first: list[float] = field(default_factory=list)
    """Seconds to the first piece of text."""
    whole: list[float] = field(default_factory=list)
    refused: int = 0
    seconds: float = 0.0

    @property
    def failure(self) -> str | None:
        """Why this is no measurement: each request that was sent must have had a piece of text."""
        if self.sent and len(self.first) == self.sent:
            return None
        return f"{len(self.first)} of {self.sent} requests had a first token, {self.refused} were refused"

    def record(self, way: str, clients: int) -> dict:
        return {
            "way": way,
            "clients": clients,
            "requests_per_s": len(self.whole) / self.seconds,
            "first_p50_ms": _percentile_ms(self.first, 50),
            "first_p99_ms": _percentile_ms(self.first, 99),
            "whole_p50_ms": _percentile_ms(self.whole, 50),
            "sent": self.sent,
            "with_text": len(self.first),
            "refused": self.refused,
        }


def _percentile_ms(seconds: list[float], share: float) -> float | None:
    return float(np.percentile(seconds, share)) * 1e3 if seconds else None


def run(size: Size, device: str, outcome: Outcome) -> None:
    model = str(model_directory(size, device))
    paths = sound_files(sounds_folder(size), min(16, size.clips), size.clip_seconds)
    bodies = [_body(path, size) for path in paths]
    has_ray = importlib.util.find_spec("ray") is not None
    if not has_ray:
        outcome.notes.append("Ray is not installed: mats serve is left out")
    for way, (module, words) in ways(size, device, has_ray=has_ray).items():
        with serving(model, *words, module=module) as (server, _):
            asyncio.run(load(server.url, bodies, clients=2, seconds=size.load_seconds / 4))  # warm
            found = asyncio.run(load(server.url, bodies, clients=size.clients, seconds=size.load_seconds))
        record(outcome, way, found, size.clients)


def ways(size: Size, device: str, *, has_ray: bool) -> dict[str, tuple[Sequence[str], list[str]]]:
    """Return the module and the settings of each service; loading and CLAP's front end use every core."""
    share = 0.5 if device == "cuda" else 0
    common = ["rehearsal=true", f"threads={os.cpu_count() or 1}", "decode_processes=4"]
    common += [f"encoder.gpus={share}", f"answerer.gpus={share}"]
    ours = [*common, f"answerer.max_batch_size={size.clients}"]
    found: dict[str, tuple[Sequence[str], list[str]]] = {
        TOGETHER: (UVICORN, ours),
        ALONE: (UVICORN, [*common, "answerer.max_batch_size=1"]),
    }
    if has_ray:
        found["mats serve"] = (MATS_SERVE, [*ours, "layout=disaggregated"])
    return found


def record(outcome: Outcome, way: str, found: Load, clients: int) -> None:
    """Add what clients saw of one service: a row, figures, and a failure where answers were missing."""
    row, figures = found.record(way, clients), outcome.figures
    if found.failure is not None:
        outcome.failures.append(f"{way}: {found.failure}")
    if way == TOGETHER:
        figures["requests_per_s"] = row["requests_per_s"]
        if found.failure is None:
            figures |= {f"first_token_{name}_ms": row[f"first_{name}_ms"] for name in ("p50", "p99")}
    elif way == ALONE and row["requests_per_s"]:
        figures["over_one_at_a_time"] = figures["requests_per_s"] / row["requests_per_s"]
    outcome.add("Streamed captions", row)


def _body(path: Path, size: Size) -> bytes:
    sound = {"data": base64.b64encode(path.read_bytes()).decode(), "format": "wav"}
    content = [{"type": "input_audio", "input_audio": sound}]
    message = {"role": "user", "content": content}
    tree = {"model": "mats", "messages": [message], "stream": True, "max_tokens": size.new_tokens}
    return json.dumps(tree).encode()


async def load(url: str, bodies: list[bytes], *, clients: int, seconds: float) -> Load:
    """Keep one request of each client open."""
    found, until = Load(), time.perf_counter() + seconds
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:

        async def client(number: int) -> None:
            while time.perf_counter() < until:
                await _ask(session, url, bodies[number % len(bodies)], found)

        started = time.perf_counter()
        await asyncio.gather(*(client(number) for number in range(clients)))
        found.seconds = time.perf_counter() - started
    return found


async def _ask(session: aiohttp.ClientSession, url: str, body: bytes, found: Load) -> None:
    started, first = time.perf_counter(), None
    found.sent += 1
    headers = {"Content-Type": "application/json"}
    async with session.post(f"{url}/v1/chat/completions", data=body, headers=headers) as response:
        if response.status != 200:
            found.refused += 1
            await response.read()
            return
        async for line in response.content:
            if first is None and _has_text(line):
                first = time.perf_counter() - started
    found.whole.append(time.perf_counter() - started)
    if first is not None:
        found.first.append(first)


def _has_text(line: bytes) -> bool:
    data = line.removeprefix(b"data: ").strip()
    if not data.startswith(b"{"):
        return False
    choices = json.loads(data).get("choices") or [{}]
    return bool(choices[0].get("delta", {}).get("content"))
