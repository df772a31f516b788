"""Autoscaling: one node becomes three for a captioning job, and for load on the service, and one again.

    python -m benchmarks.nodes.grow --picture docs/pictures/autoscaling.svg

Ray's autoscaler (v2) with its provider for tests (``fake_multinode``), which starts further nodes beside the
head, as ``ray.cluster_utils.AutoscalingCluster`` does; that class itself ends every Ray process of the
machine when it starts. It and the autoscaler read a file of defaults that Ray's package lacks: the host has
an empty one. All nodes are on one host of namespaces. Prints the time line, and draws it.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from ray.autoscaler._private.fake_multi_node import node_provider

from benchmarks.nodes.cluster import BUCKET, DASHBOARD_PORT, RayNodes, Store, Watch, store, until
from benchmarks.nodes.hosts import ROOT, network
from benchmarks.nodes.service import Load, is_ready, is_running
from tests.integration.test_caption import encoded, sound
from tests.world import tiny_model_dir

IDLE_MINUTES, HEAD_CPUS, NODE_CPUS, MOST_NODES, NUM_CLIPS, NUM_CLIENTS, LOAD_S = 0.25, 2, 2, 3, 120, 12, 75
CLUSTER = {
    "cluster_name": "grows",
    "max_workers": MOST_NODES - 1,
    "idle_timeout_minutes": IDLE_MINUTES,
    "upscaling_speed": 1.0,
    "provider": {
        "type": "fake_multinode",
        "use_node_id_as_ip": True,  # nodes share one address
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "launch_multiple": True,
        "head_node_id": node_provider.FAKE_HEAD_NODE_ID,
    },
    "auth": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    "initialization_commands": [],
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": HEAD_CPUS}, "node_config": {}, "max_workers": 0},
        "ray.worker.cpu": {
            "resources": {"CPU": NODE_CPUS, "object_store_memory": 100_000_000},
            "node_config": {},
            "min_workers": 0,
            "max_workers": MOST_NODES - 1,
        },
    },
}


class Growing(RayNodes):
    """A head with the autoscaler."""

    def start_head(self) -> None:
        """Run ``ray start --head --autoscaling-config``."""
        self._add_defaults()
        file = self.home / "cluster.json"
        file.write_text(json.dumps(CLUSTER))
        words = ["ray", "start", "--head", "--num-cpus", HEAD_CPUS, "--port", 6379, "--dashboard-host"]
        words += ["0.0.0.0", "--dashboard-port", DASHBOARD_PORT, "--node-ip-address", self.head.address]  # noqa: S104
        words += ["--object-store-memory", 100_000_000, "--autoscaling-config", file, "--block"]
        as_the_class = {
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": node_provider.FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": node_provider.FAKE_HEAD_NODE_ID,
        }
        self.head.start(words, self.environment | as_the_class, self.home / "head.log")
        until(lambda: self.get("/api/version") is not None, "the head")

    def _add_defaults(self) -> None:
        """Lay a copy of the provider's package over it on the host, with ``example.yaml``."""
        package, copy = Path(node_provider.__file__).parent, self.home / "provider"
        shutil.copytree(package, copy, dirs_exist_ok=True)
        (copy / "example.yaml").write_text("{}\n")
        subprocess.run(self.head.inside("mount", "--bind", copy, package), check=True)

    def num_nodes(self) -> int:
        """Count the nodes that are alive."""
        answer = self.get("/api/v0/nodes?limit=100&detail=1")
        rows = answer["data"]["result"]["result"] if answer else []
        return sum(row["state"] == "ALIVE" for row in rows)


def caption(nodes: Growing, bucket: Store, model: str, events: list[tuple[float, str]], watch: Watch) -> None:
    """Caption with two model actors, each as large as a node."""
    for i in range(NUM_CLIPS):
        bucket.files.pipe_file(f"{BUCKET}/in/{i:04d}.flac", encoded(sound(i, 1 + i % 20), format="FLAC"))
    words: list[Any] = ["python", "jobs/caption.py", "--model", model, "--audio", f"s3://{BUCKET}/in"]
    words += ["--out", f"s3://{BUCKET}/out", "--window", "clap", "--set", "caption.concurrency=2"]
    words += ["--set", f"caption.cpus_per_actor={NODE_CPUS}", "--set", "caption.batch_size=2"]
    words += ["--set", "generation.profile=paper", "--set", "generation.max_new_tokens=24"]
    events.append((watch.now, "captioning submitted"))
    nodes.submit("caption", *words)
    until(lambda: nodes.status("caption") in {"SUCCEEDED", "FAILED"}, "the end of the job")
    events.append((watch.now, "captioning ended"))
    assert nodes.status("caption") == "SUCCEEDED", nodes.logs("caption")[-2000:]
    until(lambda: watch.number == 1, "one node again")


def serve(nodes: Growing, model: str, events: list[tuple[float, str]], watch: Watch) -> str:
    """Deploy one replica, which has room on the head, ask much, then nothing; returns how requests ended."""
    tree: dict[str, Any] = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())
    tree["http_options"]["host"] = "0.0.0.0"  # noqa: S104
    arguments = tree["applications"][0]["args"]
    arguments |= {"model": model, "layout": "colocated", "allow_anonymous": True, "retry_seconds": 60}
    scaling = {"min_replicas": 1, "max_replicas": MOST_NODES, "target_ongoing_requests": 2}
    scaling |= {"upscale_delay_seconds": 5, "downscale_delay_seconds": 15}
    arguments["ingress"] |= {"cpus": 1.0, "autoscaling": scaling}
    arguments["answerer"]["cpus"] = arguments["encoder"]["cpus"] = 0.5
    file = nodes.home / "serve.yaml"
    file.write_text(yaml.safe_dump(tree))
    nodes.ray("serve", "deploy", file)
    until(lambda: is_running(nodes) and is_ready(nodes.head.address), "the service")
    events.append((watch.now, "load begins"))
    load = Load([nodes.head.address] * NUM_CLIENTS)
    threading.Event().wait(LOAD_S)
    load.stop()
    events.append((watch.now, "load ends"))
    until(lambda: watch.number == 1, "one node again")
    return f"requests: {dict(load.between(0, time.monotonic()))}"


def draw(seen: list[tuple[float, int]], events: list[tuple[float, str]], picture: Path) -> None:
    """Draw nodes over time."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mats"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    times, numbers = zip(*seen, strict=True)
    axes.step(times, numbers, where="post", color="#1f6f8b", linewidth=2)
    for at, what in events:
        axes.axvline(at, color="#888888", linewidth=0.8, linestyle="--")
        axes.text(at, MOST_NODES + 0.45, f" {what}", rotation=0, fontsize=8, va="center", ha="left")
    for index, text in enumerate(axes.texts):  # neighbours one above the other
        text.set_y(MOST_NODES + 0.35 + 0.3 * (index % 2))
    axes.set(xlabel="seconds", ylabel="nodes", yticks=range(MOST_NODES + 1), ylim=(0, MOST_NODES + 0.9))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, metadata={"Date": None})


def main() -> None:
    """Grow and shrink twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--home", type=Path, default=Path("/var/tmp/mats_grow"))  # noqa: S108
    args = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # hosts are removed then, too
    args.home.mkdir(parents=True, exist_ok=True)
    events: list[tuple[float, str]] = []
    with network() as net, store() as bucket:
        nodes = Growing(net, args.home, bucket.environment, tmp="1500m")
        nodes.start_head()
        model = str(tiny_model_dir(args.home / "model"))
        watch = Watch(nodes.num_nodes)
        try:
            caption(nodes, bucket, model, events, watch)
            print(serve(nodes, model, events, watch))
        finally:
            watch.stop()
            print(
                json.dumps({"nodes": [(round(at, 1), number) for at, number in watch.seen], "events": events})
            )
    draw(watch.seen, events, args.picture)


if __name__ == "__main__":
    main()
