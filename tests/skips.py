"""A test may be skipped for what a machine cannot have, ``../shared`` and a GPU, and for nothing else.

Where ``MATS_FAIL_ON_SKIP`` is set any other skip is a failure that names its reason:
a missing browser, a package that has left the lock, a file that has moved. ``tests/conftest.py`` takes the
hooks.
"""

import os
import re
from typing import Any

import pytest

VARIABLE = "MATS_FAIL_ON_SKIP"
ALLOWED = re.compile(r"(^|[/ ])shared/|\bGPUs?\b|\bCUDA\b")
"""Reasons that a machine cannot help: they name a path below ``shared/``, or a GPU."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    """Turn a skipped test into a failed one; ``xfail``, which pytest reports as skipped, stays."""
    return _judged((yield), where=item.nodeid)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(collector):
    """The same for a module that is skipped while it is read."""
    return _judged((yield), where=collector.nodeid)


def _judged(report: Any, *, where: str) -> Any:
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get(VARIABLE):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not ALLOWED.search(reason):
            report.outcome = "failed"
            report.longrepr = f"{where} is skipped where {VARIABLE} is set: {reason}"
    return report
