"""Memory is that of the whole tree of processes, by role."""

import os
import subprocess
import sys

import psutil

from mats_ray.rehearsal.process_memory import ProcessMemory, descendants, role_of

HOLD = "import sys; block = b'x' * 300_000_000; print('ready', flush=True); sys.stdin.readline()"


def test_the_memory_of_a_child_counts(tmp_path):
    script = tmp_path / "holder.py"
    script.write_text(HOLD)
    child = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"ready\n"
        with ProcessMemory(os.getpid()) as memory:
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
