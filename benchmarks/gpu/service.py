"""The service on the card under clients: requests/s and time to the first token, against one at a time.

Every client asks again as soon as it has an answer, over a stream, about clips of its own. The peer is the
same service with one place in its answering engine. Without Ray the app runs under uvicorn, in one process;
where there is Ray, ``mats serve`` is measured, too.
"""

import asyncio
import base64
import importlib.util
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np

from benchmarks.gpu.parts import Outcome, Table
from benchmarks.gpu.sizes import Size
from benchmarks.gpu.stand_in import model_directory, sound_files, work_folder

sys.path.insert(0, str(Path(__file__).parents[1]))
from serve_load import serving

UVICORN = ("-m", "benchmarks.gpu.server")


@dataclass
class Load:
    """What clients saw."""

    first: list[float] = field(default_factory=list)
    """Seconds to the first piece of text."""
    whole: list[float] = field(default_factory=list)
    refused: int = 0
    seconds: float = 0.0

    def record(self, way: str, clients: int) -> dict:
        first, whole = (np.array(times or [np.nan]) * 1e3 for times in (self.first, self.whole))
        return {
            "way": way,
            "clients": clients,
            "requests_per_s": len(self.whole) / self.seconds,
            "first_p50_ms": float(np.percentile(first, 50)),
            "first_p99_ms": float(np.percentile(first, 99)),
            "whole_p50_ms": float(np.percentile(whole, 50)),
            "refused": self.refused,
        }


def run(size: Size, device: str) -> Outcome:
    model = str(model_directory(size, device))
    paths = sound_files(work_folder() / f"sounds-{size.name}", size.clips, size.clip_seconds)[:16]
    bodies = [_body(path, size) for path in paths]
    share = 0.5 if device == "cuda" else 0
    settings = [f"encoder.gpus={share}", f"answerer.gpus={share}", "decode_processes=4"]
    ours = [*settings, f"answerer.max_batch_size={size.clients}"]
    ways = {
        "uvicorn, one process": (UVICORN, ours),
        "uvicorn, one answer at a time": (UVICORN, [*settings, "answerer.max_batch_size=1"]),
    }
    notes = []
    if importlib.util.find_spec("ray") is None:
        notes.append("Ray is not installed: mats serve is left out")
    else:
        ways["mats serve"] = (("-m", "mats_ray", "serve"), [*ours, "layout=disaggregated"])
    rows = []
    for way, (module, words) in ways.items():
        with serving(model, *words, module=module) as (server, _):
            asyncio.run(load(server.url, bodies, clients=2, seconds=size.load_seconds / 4))  # warm
            found = asyncio.run(load(server.url, bodies, clients=size.clients, seconds=size.load_seconds))
        rows.append(found.record(way, size.clients))
    together, alone = rows[0], rows[1]
    figures = {
        "requests_per_s": together["requests_per_s"],
        "first_token_p50_ms": together["first_p50_ms"],
        "first_token_p99_ms": together["first_p99_ms"],
        "over_one_at_a_time": together["requests_per_s"] / alone["requests_per_s"],
    }
    failures = [f"{row['refused']} requests failed: {row['way']}" for row in rows if row["refused"]]
    return Outcome(figures, [Table.of("Streamed captions", rows)], notes, failures)


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
    if first is not None:  # random weights may answer with nothing
        found.first.append(first)


def _has_text(line: bytes) -> bool:
    data = line.removeprefix(b"data: ").strip()
    if not data.startswith(b"{"):
        return False
    choices = json.loads(data).get("choices") or [{}]
    return bool(choices[0].get("delta", {}).get("content"))
