"""Peak memory of this process and everything it started, sampled by a thread."""

import threading

import psutil

SAMPLE_SECONDS = 5.0
"""Reading the memory maps of some twenty processes costs 0.2 s of a core and delays each of them."""


class PeakMemory:
    """Context manager; ``gigabytes`` is the highest sum of proportional set sizes seen.

    Shared pages (Ray's object store, libraries) count once, divided among those who share them.
    """

    def __init__(self) -> None:
        self.gigabytes = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me, stopped = psutil.Process(), False
        while not stopped:  # sampled when it starts and when it ends, too: it may be short
            stopped = self._stop.wait(SAMPLE_SECONDS if self.gigabytes else 0)
            total = sum(_pss_bytes(process) for process in [me, *me.children(recursive=True)])
            self.gigabytes = max(self.gigabytes, total / 1e9)


def _pss_bytes(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except psutil.Error:  # ended meanwhile
        return 0
