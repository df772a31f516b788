"""Peak memory: of this process and its children, however short the work was.

Measured in a fresh interpreter: beside a cluster of other tests, the sum over all children is theirs.
"""

import json
import subprocess
import sys

import pytest

MEASURE = """
import json, subprocess, sys
import numpy as np
import psutil
from mats_ray.toy.demo.peak_memory import PeakMemory

CHILD = "import sys; held = bytearray(b'x') * 60_000_000; print('ready', flush=True); sys.stdin.read()"
with PeakMemory() as alone:
    own = psutil.Process().memory_info().rss / 1e9
with subprocess.Popen([sys.executable, "-c", CHILD], stdin=-1, stdout=-1) as child, PeakMemory() as family:
    assert child.stdout.readline() == b"ready\\n"
with PeakMemory() as holding:
    held = np.ones(40_000_000, np.uint8)  # written, so really there
print(json.dumps([own, alone.gigabytes, family.gigabytes, holding.gigabytes]))
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
