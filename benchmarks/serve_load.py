"""Server and clients of bench_serve.py: a server in its own processes, clients that time every reply."""

import asyncio
import base64
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import numpy as np
import psutil

EXAMPLES = sorted((Path(__file__).parents[1] / "mats_ray/serving/http/page/examples").glob("*.ogg"))
QUESTIONS = [None, "Is there a dog?", "What can be heard?", "Which sound comes first?", "Is it raining?"]


@dataclass(frozen=True)
class Reply:
    """One request's end."""

    status: int
    seconds: float
    text: str | None = None
    code: str | None = None
    at: float = 0.0
    """Seconds after the start of the load."""
    number: int = 0
    """Index of the request in the series."""


@dataclass
class Load:
    """Replies during one measurement."""

    replies: list[Reply] = field(default_factory=list)
    seconds: float = 0.0

    def of(self, *statuses: int) -> list[Reply]:
        return [reply for reply in self.replies if reply.status in statuses]

    @property
    def rate(self) -> float:
        return len(self.of(200)) / self.seconds

    def counts(self) -> str:
        return ", ".join(
            f"{n} x {status}" for status, n in sorted(Counter(r.status for r in self.replies).items())
        )


def milliseconds(replies: Sequence[Reply], percent: float) -> float:
    return (
        float(np.percentile([reply.seconds for reply in replies], percent)) * 1e3 if replies else float("nan")
    )


class Server:
    """A running service: its address and its processes."""

    def __init__(self, process: subprocess.Popen, url: str) -> None:
        self.url, self.process = url, psutil.Process(process.pid)

    def memory_mb(self) -> float:
        """Resident memory of everything that belongs to it; what is shared counts once per process."""
        total = 0
        for process in [self.process, *self.process.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return total / 2**20

    def cpu_seconds(self) -> float:
        """CPU time of everything that belongs to it so far; fair also where others share the machine."""
        total = 0.0
        for process in [self.process, *self.process.children(recursive=True)]:
            with suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def ingress_mb(self) -> float:
        """Memory of the largest ingress replica, without what it shares with Ray's object store."""
        sizes = []
        for replica in self.replicas("Ingress"):
            with suppress(psutil.Error):
                sizes.append(replica.memory_full_info().uss / 1e6)
        return max(sizes, default=0.0)

    def logged(self, *words: str) -> int:
        """Return the number of log lines of Serve's controller that hold all of these words."""
        raylet = next(one for one in self.process.children(recursive=True) if one.name() == "raylet")
        session = next(arg for arg in raylet.cmdline() if arg.startswith("--session_dir=")).partition("=")[2]
        logs = Path(session).glob("logs/serve/controller_*.log")
        lines = [line for log in logs for line in log.read_text().splitlines()]
        return sum(all(word in line for word in words) for line in lines)

    def replicas(self, name: str) -> list[psutil.Process]:
        found = []
        for process in self.process.children(recursive=True):
            try:
                if f"ServeReplica:mats:{name}" in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found


@contextmanager
def serving(model: str, *settings: str, module: Sequence[str] = ("-m", "mats_ray", "serve")):
    """Start a server, wait until it has answered, end it. Yields it and the seconds its start took."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    command = [sys.executable, *module, "--model", model, "--port", str(port)]
    for setting in settings:
        command += ["--set", f"serve.{setting}"]
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            server = Server(process, f"http://127.0.0.1:{port}")
            asyncio.run(_until_ready(server, process))
            yield server, time.monotonic() - started
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=90)
            except subprocess.TimeoutExpired:
                process.kill()


async def _until_ready(server: Server, process: subprocess.Popen) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(1800):
            try:
                async with session.get(f"{server.url}/readyz") as reply:
                    if reply.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            assert process.poll() is None, process.stderr.read().decode()[-2000:]
            await asyncio.sleep(0.1)
    raise TimeoutError("the server did not become ready")


def chat(number: int, **options: object) -> bytes:
    """Make the n-th request of a fixed, mixed series; encoded once, not at each sending."""
    sound = {
        "data": base64.b64encode(EXAMPLES[number % len(EXAMPLES)].read_bytes()).decode(),
        "format": "ogg",
    }
    content: list[dict[str, object]] = [{"type": "input_audio", "input_audio": sound}]
    if question := QUESTIONS[number % len(QUESTIONS)]:
        content.append({"type": "text", "text": question})
    body = {"model": "mats", "messages": [{"role": "user", "content": content}], **options}
    return json.dumps(body).encode()


_JSON = {"Content-Type": "application/json"}


async def send(session: aiohttp.ClientSession, url: str, body: bytes) -> Reply:
    started = time.perf_counter()
    try:
        async with session.post(f"{url}/v1/chat/completions", data=body, headers=_JSON) as response:
            raw = await response.read()
            seconds = time.perf_counter() - started
            if response.content_type != "application/json":
                return Reply(response.status, seconds, code=f"no JSON: {raw[:60]!r}")
            parsed = json.loads(raw)
            if response.status == 200:
                return Reply(200, seconds, text=parsed["choices"][0]["message"]["content"])
            return Reply(response.status, seconds, code=(parsed or {}).get("error", {}).get("code"))
    except (aiohttp.ClientError, TimeoutError, ValueError, AttributeError) as error:
        return Reply(0, time.perf_counter() - started, code=type(error).__name__)


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        yield session


async def closed_loop(url: str, clients: int, seconds: float, **options: object) -> Load:
    """Clients that ask again as soon as they have an answer."""
    load, numbers = Load(), iter(range(10**9))
    bodies = [chat(number, **options) for number in range(15)]
    async with _session() as session:
        until = time.monotonic() + seconds

        async def client() -> None:
            while time.monotonic() < until:
                number = next(numbers) % len(bodies)
                load.replies.append(replace(await send(session, url, bodies[number]), number=number))

        started = time.monotonic()
        await asyncio.gather(*(client() for _ in range(clients)))
        load.seconds = time.monotonic() - started
    return load


async def open_loop(
    url: str, rate: float, seconds: float, *, each_second: Callable[[int], None] = lambda _: None
) -> Load:
    """Requests at a rate, whether or not earlier ones are answered; arrivals by chance, from a fixed seed."""
    load, chance = Load(), random.Random(0)  # noqa: S311
    bodies = [chat(number) for number in range(15)]
    async with _session() as session:
        started, due, tasks, second = time.monotonic(), 0.0, [], 0
        while due < seconds:
            await asyncio.sleep(max(0.0, started + due - time.monotonic()))
            while second < due:
                each_second(second)
                second += 1
            tasks.append(asyncio.create_task(_dated(send(session, url, bodies[len(tasks) % 15]), due)))
            due += chance.expovariate(rate)
        load.replies = list(await asyncio.gather(*tasks))
        load.seconds = time.monotonic() - started
    return load


async def _dated(sending: Awaitable[Reply], at: float) -> Reply:
    return replace(await sending, at=at)


def environment() -> str:
    """Name what was measured on."""
    import ray
    import torch

    load = os.getloadavg()[0]
    versions = f"ray {ray.__version__}, torch {torch.__version__}"
    return f"{os.cpu_count()} cores, load average {load:.1f} before, {versions}"
