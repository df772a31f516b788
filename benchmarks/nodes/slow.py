"""Captioning by workers behind slow wires, compared with the same job by workers behind plain ones."""

from pathlib import Path

from benchmarks.nodes.cluster import cluster, table_row
from benchmarks.nodes.scenarios import CPUS, Bench, caption, differences

DELAY_S, LOSS = 0.1, 0.05
"""In each direction: an answer takes 200 ms more."""


def run(home: Path) -> str:
    """Return the row of the table.

    Raises:
        AssertionError: The rows differ.
    """
    runs = []
    for wire in (None, (DELAY_S, LOSS)):
        with cluster(home) as (nodes, bucket):
            for number in (1, 2):
                nodes.add_worker(f"w{number}", 11 + number, cpus=CPUS, slow=wire)
            nodes.until_whole()
            bench = Bench(nodes, bucket, home)
            runs.append(caption(bench, "caption-slow" if wire else "caption-plain", None))
    plain, slow = runs
    assert slow.result == plain.result, differences(plain.result, slow.result)
    return table_row(
        "caption",
        f"both workers behind wires: round trip {2 * DELAY_S * 1000:.0f} ms, {LOSS:.0%} of frames lost",
        f"0 of {len(plain.result)} rows, all equal to those by plain wires",
        f"{slow.pause:.0f} s ({plain.pause:.0f})",
        f"{slow.seconds:.0f} s ({plain.seconds:.0f})",
        "-",
    )
