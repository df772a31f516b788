"""A Ray cluster on hosts: ``ray start`` on each, S3 by moto, jobs by ``ray job submit`` from outside."""

import contextlib
import io
import itertools
import logging
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pyarrow.parquet as pq
import s3fs
from moto.server import ThreadedMotoServer

from benchmarks.nodes.hosts import GATEWAY, ROOT, Host, Network, network

PROGRAMS = Path(sys.executable).parent
BUCKET, REDIS_PORT, HEAD_PORT, DASHBOARD_PORT = "sounds", 6390, 6379, 8265
LONGEST_S = 900
"""Longest time of one job, or of a wait; training with a fault needs ten minutes of two cores."""
_RAY = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(16),
    "RAY_USAGE_STATS_ENABLED": "0",
    # hosts share one machine's memory: another program on it is no reason to end a worker
    "RAY_memory_monitor_refresh_ms": "0",
    # Ray's own is 15: where other programs have work, its workers would hardly run
    "RAY_worker_niceness": "0",
    # no name server knows the hosts' names, by which Gloo would find its address
    "GLOO_SOCKET_IFNAME": "eth0",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),
    "PYTHONDONTWRITEBYTECODE": "1",
}
_KEYS = {"key": "test", "secret": "test"}
_STORE = ("--object-store-memory", 100_000_000)


def until(found: Callable[[], Any], what: str, seconds: float = LONGEST_S) -> Any:
    """Poll until a value is found.

    Raises:
        TimeoutError: It is not found in time.
    """
    deadline = time.monotonic() + seconds
    while not (value := found()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.1)
    return value


class RayNodes:
    """A head without CPUs and workers.

    Args:
        net: Where hosts are made.
        home: Folder for logs.
        environment: Of every process of the cluster.
        head: Settings of the head's host.
    """

    def __init__(self, net: Network, home: Path, environment: dict[str, str], **head: object) -> None:
        self._net, self.home, self.environment = net, home, _RAY | environment
        self.head = net.add("head", 11, **head)
        self.workers: dict[str, Host] = {}
        self.api = f"http://{self.head.address}:{DASHBOARD_PORT}"

    def start_head(self) -> None:
        """Run ``ray start --head``, and wait until its dashboard answers."""
        words = [
            "ray",
            "start",
            "--head",
            "--num-cpus",
            0,
            "--port",
            HEAD_PORT,
            "--dashboard-host",
            "0.0.0.0",  # noqa: S104  (the bridge has no way out)
        ]
        words += ["--node-ip-address", self.head.address, *_STORE, "--block"]
        self.head.start(words, self.environment, self.home / "head.log")
        until(lambda: self.get("/api/version") is not None, "the head")

    def add_worker(self, name: str, number: int, *, cpus: int, **settings: object) -> Host:
        """Add a host and start Ray on it."""
        self.workers[name] = self._net.add(name, number, **settings)
        self.start_worker(name, cpus)
        return self.workers[name]

    def start_worker(self, name: str, cpus: int) -> None:
        """Run ``ray start --address``, again whenever it ends, as systemd or Kubernetes do."""
        host = self.workers[name]
        one = f"ray start --address {self.head.address}:{HEAD_PORT} --node-ip-address {host.address} "
        one += f"--num-cpus {cpus} {_STORE[0]} {_STORE[1]} --block"
        again = f"while :; do {one}; echo ended $(date +%T); sleep 2; done"
        host.start(["bash", "-c", again], self.environment, self.home / f"{name}.log")

    def alive(self) -> set[str]:
        """Return the addresses of the nodes that the head believes alive."""
        answer = self.get("/api/v0/nodes?limit=100&detail=1")
        if answer is None:
            return set()
        rows = answer["data"]["result"]["result"]
        return {row["node_ip"] for row in rows if row["state"] == "ALIVE"}

    def until_whole(self) -> None:
        """Wait until every host is a node that is alive."""
        everyone = {self.head.address, *(one.address for one in self.workers.values())}
        until(lambda: self.alive() == everyone, f"nodes {everyone}")

    def get(self, path: str) -> Any:
        """Ask the dashboard; None if it does not answer."""
        headers = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        try:
            answer = httpx2.get(self.api + path, headers=headers, timeout=5)
        except httpx2.TransportError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def ray(self, *words: object) -> str:
        """Run Ray's command line outside of the cluster.

        Raises:
            RuntimeError: It failed.
        """
        line = [
            str(PROGRAMS / "ray" if words[0] != "serve" else PROGRAMS / "serve"),
            *map(str, words[words[0] == "serve" :]),
        ]
        where = {"RAY_API_SERVER_ADDRESS": self.api, "RAY_DASHBOARD_ADDRESS": self.api}
        environment = os.environ | self.environment | where
        environment.pop("RAY_ADDRESS", None)
        done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{line}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
        return done.stdout

    def submit(self, name: str, *entrypoint: object) -> None:
        """``ray job submit --working-dir . -- python ...``, without waiting."""
        self.ray(
            "job", "submit", "--no-wait", "--submission-id", name, "--working-dir", ".", "--", *entrypoint
        )

    def status(self, name: str) -> str:
        """Return the status of a job; empty while the head does not answer."""
        answer = self.get(f"/api/jobs/{name}")
        return answer["status"] if answer else ""

    def logs(self, name: str) -> str:
        """Return what a job printed."""
        answer = self.get(f"/api/jobs/{name}/logs")
        return answer["logs"] if answer else ""


class Store:
    """The S3 server of this process, as jobs and this process use it."""

    def __init__(self, endpoint: str) -> None:
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "eu-central-1"}
        self.environment = keys | {"AWS_ENDPOINT_URL": endpoint}
        os.environ.update(self.environment)
        self.files = s3fs.S3FileSystem(endpoint_url=endpoint, use_listings_cache=False, **_KEYS)
        httpx2.post(f"{endpoint}/moto-api/reset").raise_for_status()  # of an earlier server of this process
        self.files.mkdir(BUCKET)

    def parts(self, folder: str) -> list[io.BytesIO]:
        """Read the Parquet files below a folder; one that is replaced at this moment counts as absent."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for name in sorted(self.files.find(f"{BUCKET}/{folder}")):
                if name.endswith(".parquet"):
                    with contextlib.suppress(FileNotFoundError):
                        found.append(io.BytesIO(self.files.cat_file(name)))
        return found

    def num_rows(self, folder: str) -> int:
        """Count the rows below a folder."""
        return sum(pq.read_metadata(part).num_rows for part in self.parts(folder))

    def rows(self, folder: str, by: Sequence[str]) -> list[dict[str, Any]]:
        """Read the rows below a folder in one order."""
        rows = [row for part in self.parts(folder) for row in pq.read_table(part).to_pylist()]
        return sorted(rows, key=lambda row: [row[name] for name in by])


@contextlib.contextmanager
def store() -> Iterator[Store]:
    """Serve a bucket at the bridge's address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request
    server = ThreadedMotoServer(ip_address=GATEWAY, port=0, verbose=False)
    server.start()
    try:
        yield Store(f"http://{GATEWAY}:{server.get_host_and_port()[1]}")
    finally:
        server.stop()


@contextlib.contextmanager
def redis() -> Iterator[dict[str, str]]:
    """Run Redis at the bridge's address; yields what makes a head keep its state there."""
    line = [
        "redis-server",
        "--bind",
        GATEWAY,
        "--port",
        str(REDIS_PORT),
        "--save",
        "",
        "--protected-mode",
        "no",
    ]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as process:
        try:
            yield {"RAY_REDIS_ADDRESS": f"{GATEWAY}:{REDIS_PORT}"}
        finally:
            process.terminate()


@contextlib.contextmanager
def cluster(home: Path, *, with_redis: bool = False) -> Iterator[tuple[RayNodes, Store]]:
    """Start a head, and S3; the caller adds workers. In the end only logs in ``home`` are left."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(network())
        bucket = stack.enter_context(store())
        state = stack.enter_context(redis()) if with_redis else {}
        nodes = RayNodes(net, home, bucket.environment | state)
        nodes.start_head()
        yield nodes, bucket


def table_row(*cells: str) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


class Watch:
    """A number that grows, looked at four times a second in a thread of its own.

    Attributes:
        seen: (seconds since the start, number), one entry per change.
    """

    def __init__(self, number: Callable[[], int]) -> None:
        self._number, self._stop, self._began = number, threading.Event(), time.monotonic()
        self.seen: list[tuple[float, int]] = [(0.0, 0)]
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.25):
            number = self._number()
            if number != self.seen[-1][1]:
                self.seen.append((self.now, number))

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    @property
    def number(self) -> int:
        """The number as seen last."""
        return self.seen[-1][1]

    def stop(self) -> None:
        """Look once more, and no more."""
        self._stop.set()
        self._thread.join()
        self.seen.append((self.now, self._number()))

    def pause_after(self, moment: float) -> float:
        """Return the longest time without growth that ends after a moment."""
        times = [at for at, _ in self.seen]
        return max(
            (after - before for before, after in itertools.pairwise(times) if after > moment),
            default=0.0,
        )
