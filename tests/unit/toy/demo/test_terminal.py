"""The reader's lines reach the terminal; whatever libraries, children and C++ print reaches the log only."""

import subprocess
import sys
from pathlib import Path

CODE = """
import os, subprocess, sys, warnings
from pathlib import Path
from mats_ray.progress import Progress
from mats_ray.toy.demo.terminal import output_to
print("before")
try:
    with output_to(Path(sys.argv[1])) as terminal:
        terminal.line("a stage")
        print("library on stdout"), warnings.warn("library warns"), os.write(2, b"C++ complains\\n")
        subprocess.run([sys.executable, "-c", "print('child speaks')"])
        with Progress("work", total=3, unit="step") as progress:
            progress.advance()
        if sys.argv[2] == "fail":
            raise KeyboardInterrupt
except KeyboardInterrupt:
    print("interrupted")
print("after"), print("error", file=sys.stderr)
"""
NOISE = ("library on stdout", "library warns", "C++ complains", "child speaks")


def run(log: Path, how: str):
    return subprocess.run(
        [sys.executable, "-c", CODE, str(log), how], capture_output=True, text=True, check=True
    )


def test_the_terminal_has_the_readers_lines_the_log_all_else(tmp_path):
    done = run(tmp_path / "log.txt", "pass")

    assert done.stdout.split() == ["before", "after"]
    assert done.stderr.splitlines() == [" 0:00  a stage", "error"]
    logged = (tmp_path / "log.txt").read_text()
    assert all(noise in logged for noise in NOISE)


def test_output_is_as_before_after_an_interruption_and_the_log_grows(tmp_path):
    run(tmp_path / "log.txt", "pass")

    done = run(tmp_path / "log.txt", "fail")

    assert done.stdout.split() == ["before", "interrupted", "after"]
    assert (tmp_path / "log.txt").read_text().count("C++ complains") == 2
