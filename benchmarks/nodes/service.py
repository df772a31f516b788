"""The service while its head is away: replicas on workers, Redis behind the head, requests all the time."""

import collections
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import yaml

from benchmarks.nodes.cluster import RayNodes, cluster, table_row, until
from benchmarks.nodes.hosts import ROOT
from benchmarks.nodes.scenarios import CPUS
from tests.integration.test_caption import encoded, sound
from tests.world import tiny_model_dir

PORT, AWAY_S, AFTER_S = 8000, 20, 40


class Load:
    """Clients that ask one address, one request after the other; they note what each answer was, and when."""

    def __init__(self, addresses: list[str]) -> None:
        self.seen: list[tuple[float, str, str]] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(one,), daemon=True) for one in addresses]
        for thread in self._threads:
            thread.start()

    def _ask(self, address: str) -> None:
        clip = encoded(sound(1, 1))
        while not self._stop.is_set():
            try:
                with httpx2.Client(timeout=90) as client:
                    answer = question(client, f"http://{address}:{PORT}", clip)
                outcome = str(answer.status_code)
            except httpx2.TransportError as error:
                outcome = type(error).__name__
            self.seen.append((time.monotonic(), address, outcome))
            self._stop.wait(0.1)

    def stop(self) -> None:
        """End, with the requests under way answered."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def between(self, start: float, stop: float) -> "collections.Counter[str]":
        """Count outcomes of requests that ended in a span of time."""
        return collections.Counter(outcome for at, _, outcome in self.seen if start <= at < stop)


def question(client: httpx2.Client, base: str, clip: bytes) -> httpx2.Response:
    """Ask about a clip."""
    return client.post(
        f"{base}/v1/audio/questions",
        files={"file": ("clip.wav", clip)},
        data={"question": "Is there a dog?"},
    )


def changed(home: Path) -> Path:
    """Write the shipped configuration with an ingress on every node and two replicas of everything."""
    tree: dict[str, Any] = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())
    tree["proxy_location"] = "EveryNode"
    tree["http_options"]["host"] = "0.0.0.0"  # noqa: S104
    arguments = tree["applications"][0]["args"]
    arguments |= {
        "model": str(tiny_model_dir(home / "model")),
        "layout": "colocated",
        "allow_anonymous": True,
    }
    arguments["ingress"]["autoscaling"] |= {"min_replicas": 2, "max_replicas": 2}
    tree["applications"][0]["deployments"] = [{"name": "Ingress", "max_replicas_per_node": 1}]
    file = home / "serve.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def is_ready(address: str) -> bool:
    """Whether an ingress answers that it is ready."""
    try:
        return httpx2.get(f"http://{address}:{PORT}/readyz", timeout=5).status_code == 200
    except httpx2.TransportError:
        return False


def run(home: Path) -> str:
    """Kill the head, start it again after ``AWAY_S``; returns the row of the table.

    Raises:
        AssertionError: Requests failed before anything was killed.
    """
    with cluster(home, with_redis=True) as (nodes, _):
        for number in (1, 2):
            nodes.add_worker(f"w{number}", 11 + number, cpus=CPUS)
        nodes.until_whole()
        nodes.ray("serve", "deploy", changed(home))
        addresses = [host.address for host in nodes.workers.values()]
        until(lambda: is_running(nodes) and all(is_ready(one) for one in addresses), "the service")
        load = Load(addresses * 2)
        time.sleep(10)
        killed = time.monotonic()
        nodes.head.kill()
        time.sleep(AWAY_S)
        back = time.monotonic()
        nodes.head.mend()
        nodes.head.boot()
        nodes.start_head()
        answered = time.monotonic()
        healthy = until(
            lambda: is_running(nodes) and nodes.alive() and time.monotonic(), "the service's controller"
        )
        time.sleep(AFTER_S)
        load.stop()
        end = time.monotonic()
        before, away, after = (
            load.between(0, killed),
            load.between(killed, answered),
            load.between(answered, end),
        )
        (home / "load.txt").write_text("\n".join(map(str, load.seen)))
    print(f"    before {dict(before)}, away {dict(away)}, after {dict(after)}", flush=True)
    assert set(before) == {"200"}, before
    total = before + away + after
    return table_row(
        "service",
        f"head killed, its link cut first; back with an empty disk after {AWAY_S} s, its state in Redis",
        "-",
        "-",
        f"head answers {answered - back:.0f} s after its start, Serve RUNNING after {healthy - back:.0f} s",
        f"{failures(total)} of {total.total()} ({failures(away)} of {away.total()} while the head was away)",
    )


def failures(outcomes: "collections.Counter[str]") -> int:
    """Count requests that had no answer, or another than 200."""
    return outcomes.total() - outcomes["200"]


def is_running(nodes: RayNodes) -> bool:
    """Whether the only application runs.

    Raises:
        RuntimeError: Serve has given it up.
    """
    answer = nodes.get("/api/serve/applications/")
    found = list(answer["applications"].values()) if answer else []
    if any(one["status"] == "DEPLOY_FAILED" for one in found):
        messages = [found[0]["message"], *(one["message"] for one in found[0]["deployments"].values())]
        raise RuntimeError("Serve did not deploy the service: " + "\n".join(one[-1500:] for one in messages))
    return [one["status"] for one in found] == ["RUNNING"]


def run_shipped(home: Path) -> str:
    """Deploy ``serve/config.yaml`` as it is, from outside, and ask it on the head's own loopback address.

    Its model is ``out/demo/model`` below the working directory of Ray's processes, the repository.
    """
    with cluster(home) as (nodes, _):
        for number in (1, 2):
            nodes.add_worker(f"w{number}", 11 + number, cpus=CPUS)
        nodes.until_whole()
        began = time.monotonic()
        nodes.ray("serve", "deploy", "serve/config.yaml")
        until(lambda: is_running(nodes), "the service")
        clip = home / "clip.wav"
        clip.write_bytes(encoded(sound(1, 1)))
        line = f"curl -s -F file=@{clip} -F 'question=Is there a dog?' localhost:{PORT}/v1/audio/questions"
        out = home / "answer.txt"
        out.unlink(missing_ok=True)
        assert nodes.head.start(["bash", "-c", line], {}, out).wait(90) == 0
        answer = out.read_text()
        seconds = time.monotonic() - began
    assert '"answer"' in answer or '"text"' in answer, answer
    return table_row(
        "service",
        "`serve deploy serve/config.yaml` unchanged, from outside",
        "-",
        "-",
        f"first answer after {seconds:.0f} s",
        "0 of 1",
    )
