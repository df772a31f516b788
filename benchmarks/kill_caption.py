"""Twenty kills of a captioning job on a cluster of three nodes, and what is in its output afterwards.

    python -m benchmarks.kill_caption --kills 20 --seed 1

Decoders, model processes, drivers and nodes get SIGKILL at moments drawn by chance; a killed driver is
started again, a killed node is replaced. Whenever a job ends by itself its rows are compared with those of an
unbroken one, and another job starts. Prints a line per event and one at the end; other rows are an error.
"""

import argparse
import itertools
import os
import secrets
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

for name, value in {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}.items():
    os.environ.setdefault(name, value)
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyarrow.parquet as pq
import torch
from ray.cluster_utils import Cluster

from tests.integration.test_caption import encoded, sound, write_bad, write_good
from tests.kills import Job, Kill
from tests.world import tiny_model_dir

KINDS = ["decoder", "model", "model", "node", "node", "driver"]
"""Kinds of process to kill, as often as listed: a killed driver costs a job most time."""
FAST_DEATH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}
"""Settings that detect a dead node early; Ray's own settings take half a minute."""


class Nodes:
    """A head that computes nothing, and two nodes that do."""

    def __init__(self) -> None:
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": FAST_DEATH}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self._nodes: list[Any] = [self.cluster.add_node(num_cpus=2) for _ in range(2)]

    def kill_one(self) -> None:
        """Kill the older node with all its processes and add another."""
        self.cluster.remove_node(self._nodes.pop(0), allow_graceful=False)
        self._nodes.append(self.cluster.add_node(num_cpus=2))


def rows_at(out: Path) -> list[dict[str, Any]]:
    """Read the output, in one order."""
    return sorted(pq.read_table(out).to_pylist(), key=lambda row: (row["path"], row["segment"]))


def clips_in(folder: Path, number: int) -> Path:
    """Files of one to six windows, and one of each bad kind."""
    write_good(folder, 10)
    for i in range(number):
        (folder / f"{i:03d}.flac").write_bytes(encoded(sound(100 + i, 1 + i % 20), format="FLAC"))
    write_bad(folder)
    return folder


def main() -> None:
    """Kill and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", type=int, default=150)
    args = parser.parse_args()
    torch.set_num_threads(1)
    started, killed = time.monotonic(), Counter[str]()

    def log(line: str) -> None:
        killed.update([line.split()[0]])
        print(f"{time.monotonic() - started:6.1f} s  {line}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        home, nodes = Path(folder), Nodes()
        try:
            job = {"address": nodes.cluster.address, "model": str(tiny_model_dir(home / "model")), "log": log}
            job |= {"audio": str(clips_in(home / "clips", args.files)), "kill_node": nodes.kill_one}
            Job(**job, out=str(home / "unbroken")).run(iter(()))
            expected, kills = rows_at(home / "unbroken"), Kill.draw(KINDS, seed=args.seed)
            num_hits = rounds = 0
            while num_hits < args.kills:
                rounds += 1
                out = home / f"out {rounds}"
                num_hits += Job(**job, out=str(out)).run(itertools.islice(kills, args.kills - num_hits))
                assert rows_at(out) == expected, f"other rows in round {rounds}"
        finally:
            nodes.cluster.shutdown()
    did = ", ".join(f"{killed[kind]} {kind}" for kind in dict.fromkeys(KINDS))
    print(
        f"{num_hits} kills ({did}) in {rounds} jobs of {args.files + 17} files, {len(expected)} rows: "
        f"all equal to the unbroken job; {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
