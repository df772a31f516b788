"""Peak memory: of this process and its children, however short the work was."""

import subprocess
import sys

import numpy as np
import psutil

from mats_ray.toy.peak import PeakMemory


def test_memory_held_at_the_end_is_seen():
    with PeakMemory() as before:
        pass
    with PeakMemory() as peak:
        held = np.ones(40_000_000, np.uint8)  # written, so really there

    assert len(held) == 40_000_000
    assert peak.gigabytes > before.gigabytes + 0.03


def test_the_number_is_of_the_size_of_this_process():
    with PeakMemory() as peak:
        own = psutil.Process().memory_info().rss / 1e9

    assert own / 4 < peak.gigabytes < 4 * own + 1


def test_children_count():
    hold = "import sys; held = bytearray(b'x') * 60_000_000; print('ready', flush=True); sys.stdin.read()"
    with PeakMemory() as alone:
        pass
    with (
        subprocess.Popen(
            [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child,
        PeakMemory() as peak,
    ):
        assert child.stdout.readline() == b"ready\n"

    assert peak.gigabytes > alone.gigabytes + 0.05
