"""Peak memory of the processes below one process, by what they do, sampled by a thread."""

import re
import threading
from collections import defaultdict
from pathlib import Path

import psutil

_TITLE = re.compile(r"ray::([\w:]+)")


class ProcessMemory:
    """Context manager; ``peaks_gb`` has the largest process of each role and ``total_gb`` the highest sum.

    Proportional set sizes, in 10^9 bytes: pages that processes share (Ray's object store, libraries) count
    once, divided among them. Sampled when it starts and when it ends, too: it may be short.

    Args:
        pid: The process whose descendants are watched, itself included.
        interval: Seconds between two samples. Reading the memory maps of some twenty processes costs 0.2 s of
            a core and delays each of them.
    """

    def __init__(self, pid: int, *, interval: float) -> None:
        self.peaks_gb, self.total_gb = dict[str, float](), 0.0
        self._pid, self._interval, self._stop = pid, interval, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "ProcessMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        self._sample()
        while not self._stop.wait(self._interval):
            self._sample()
        self._sample()

    def _sample(self) -> None:
        total, by_role = 0.0, defaultdict[str, float](float)
        for process in descendants(self._pid):
            try:
                role, size = role_of(process), process.memory_full_info().pss / 1e9
            except psutil.Error:  # it ended meanwhile
                continue
            total += size
            by_role[role] = max(by_role[role], size)
        self.total_gb = max(self.total_gb, total)
        for role, size in by_role.items():
            self.peaks_gb[role] = max(self.peaks_gb.get(role, 0.0), size)


def descendants(pid: int) -> list[psutil.Process]:
    """Return a process and all below it; none if it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def role_of(process: psutil.Process) -> str:
    """Name what a process does: the class of a Ray actor or task, a program of Ray's, or the driver."""
    command = process.cmdline()
    if not command:
        return process.name()
    if found := _TITLE.match(command[0]):
        return found[1]
    program = Path(command[0]).name
    if program.startswith("python"):
        scripts = [Path(word).name for word in command[1:] if word.endswith(".py") or "/bin/" in word]
        return scripts[0] if scripts else "python"
    return program
