"""Faults of nodes: real Ray on hosts made of namespaces, and what a fault costs. Needs root.

    python -m benchmarks.nodes caption:lost train:lost caption:partition
    python -m benchmarks.nodes embed:lost evaluate:lost
    python -m benchmarks.nodes caption:slow
    python -m benchmarks.nodes serve:head

A scenario is JOB:FAULT, a row of the table. Whatever happens, in the end no host and no process is left. Logs
stay in the folder of ``--home``, which all hosts see.
"""

import argparse
import signal
import sys
import traceback
from pathlib import Path

import torch

from benchmarks.nodes import service, slow
from benchmarks.nodes.cluster import cluster
from benchmarks.nodes.scenarios import CPUS, FAULTS, JOBS, Bench, disturbed

HEADER = "| job | what was done | lost | longest pause (unbroken) | whole job (unbroken) | requests failed |"


def on_two_workers(names: list[str], home: Path) -> int:
    """Run scenarios one after the other on one cluster; returns how many failed."""
    failed = 0
    with cluster(home) as (nodes, bucket):
        for number in (1, 2):
            nodes.add_worker(f"w{number}", 11 + number, cpus=CPUS)
        bench = Bench(nodes, bucket, home)
        for name in names:
            job, fault = name.split(":")
            try:
                print(disturbed(bench, job, fault), flush=True)
            except Exception:  # noqa: BLE001  (the other scenarios still run)
                failed += 1
                print(f"FAILED {name}\n{traceback.format_exc()[-3000:]}", flush=True)
    return failed


def main() -> int:
    """Run scenarios; 1 if one of them failed."""
    usual = [f"{job}:{fault}" for job in JOBS for fault in FAULTS]
    special = {"caption:slow": slow.run, "serve:head": service.run, "serve:shipped": service.run_shipped}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("scenarios", nargs="+", choices=[*usual, *special], metavar="JOB:FAULT")
    parser.add_argument("--home", type=Path, default=Path("/var/tmp/mats_nodes"))  # noqa: S108
    args = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # hosts are removed then, too
    print(HEADER, flush=True)
    failed = 0
    if names := [name for name in args.scenarios if name in usual]:
        failed += on_two_workers(names, args.home)
    for name in args.scenarios:
        if name in special:
            try:
                print(special[name](args.home), flush=True)
            except Exception:  # noqa: BLE001  (the other scenarios still run)
                failed += 1
                print(f"FAILED {name}\n{traceback.format_exc()[-3000:]}", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
