"""Memory is that of the whole tree of processes, by role, however short the work was.

Sums are measured in a fresh interpreter: beside a cluster of other tests, that over all children is theirs.
"""

import json
import os
import subprocess
import sys

import psutil
import pytest

from mats_ray.process_memory import ProcessMemory, descendants, role_of

HOLD = "import sys; block = b'x' * 300_000_000; print('ready', flush=True); sys.stdin.readline()"


def test_the_memory_of_a_child_counts(tmp_path):
    script = tmp_path / "holder.py"
    script.write_text(HOLD)
    child = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"ready\n"
        with ProcessMemory(os.getpid(), interval=1.0) as memory:
            pass
        assert child.pid in {one.pid for one in descendants(os.getpid())}
    finally:
        child.communicate(b"\n")

    assert memory.peaks_gb["holder.py"] > 0.3
    assert memory.total_gb > memory.peaks_gb["holder.py"]


def test_a_process_that_ended_has_no_descendants():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()

    assert descendants(child.pid) == []


class Titled:
    def __init__(self, *command):
        self.command = command

    def cmdline(self):
        return list(self.command)

    def name(self):
        return "kernel"


def test_roles():
    assert role_of(Titled("ray::RayTrainWorker.execute")) == "RayTrainWorker"
    assert role_of(Titled("ray::ServeReplica:mats:Answerer")) == "ServeReplica:mats:Answerer"
    assert role_of(Titled("/usr/bin/python3.11", "jobs/train.py", "--config", "x.yaml")) == "train.py"
    assert role_of(Titled("/opt/ray/raylet", "--x")) == "raylet"
    assert role_of(Titled()) == "kernel"
    assert role_of(psutil.Process())


MEASURE = """
import json, os, subprocess, sys
import numpy as np
import psutil
from mats_ray.process_memory import ProcessMemory

CHILD = "import sys; held = bytearray(b'x') * 60_000_000; print('ready', flush=True); sys.stdin.read()"
with ProcessMemory(os.getpid(), interval=5.0) as alone:
    own = psutil.Process().memory_info().rss / 1e9
started = subprocess.Popen([sys.executable, "-c", CHILD], stdin=-1, stdout=-1)
with started as child, ProcessMemory(os.getpid(), interval=5.0) as family:
    assert child.stdout.readline() == b"ready\\n"
with ProcessMemory(os.getpid(), interval=5.0) as holding:
    held = np.ones(40_000_000, np.uint8)  # written, so really there
print(json.dumps([own, alone.total_gb, family.total_gb, holding.total_gb]))
"""


@pytest.fixture(scope="module")
def measured():
    ran = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    return dict(zip(("own", "alone", "family", "holding"), json.loads(ran.stdout), strict=True))


def test_memory_held_at_the_end_is_seen(measured):
    assert measured["holding"] > measured["alone"] + 0.03


def test_the_number_is_of_the_size_of_this_process(measured):
    assert measured["own"] / 4 < measured["alone"] < 1.5 * measured["own"]


def test_children_count(measured):
    assert measured["family"] > measured["alone"] + 0.05
