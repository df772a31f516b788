"""The tests marked ``gpu`` as a part: how many passed, and which did not."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.parts import Outcome
from benchmarks.gpu.sizes import Size

ROOT = Path(__file__).parents[2]
TITLE = "Tests that did not pass"


def run(size: Size, device: str, outcome: Outcome) -> None:
    arguments = [str(ROOT / "tests/gpu"), "-m", "gpu", "--device", device, "-q", "-p", "no:cacheprovider"]
    status = pytest.main(arguments, plugins=[Recorder(outcome)])
    if not any(outcome.figures.values()):
        raise RuntimeError(f"no test was run; pytest ended with {status!r}")


class Recorder:
    """A plugin of pytest that counts each test when it has ended."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        outcome.figures |= dict.fromkeys(("passed", "failed", "skipped"), 0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:  # setting up and cleaning up count if they fail
            self._record(report.nodeid, report.outcome, report.longrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            self._record(report.nodeid, report.outcome, report.longrepr)

    def _record(self, name: str, result: str, cause: Any) -> None:
        self._outcome.figures[result] += 1
        if result == "passed":
            self._outcome.write()
            return
        why = _message(cause)
        if result == "failed":
            self._outcome.failures.append(f"{name}: {why}")
        self._outcome.add(TITLE, {"test": name, "result": result, "why": why})


def _message(cause: Any) -> str:
    """Return the first line of why a test failed or was skipped."""
    if isinstance(cause, tuple):  # file, line and reason
        return str(cause[2]).removeprefix("Skipped: ")
    crash = getattr(cause, "reprcrash", None)
    lines = str(crash.message if crash else cause).strip().splitlines()
    return lines[0][:200] if lines else ""
