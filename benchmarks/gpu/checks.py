"""The tests marked ``gpu`` as a part: how many passed, and which did not."""

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gpu.parts import Outcome, Table
from benchmarks.gpu.sizes import Size

ROOT = Path(__file__).parents[2]


def run(size: Size, device: str) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "tests/gpu", "-m", "gpu", "--device", device, "-q"]
        command += ["-p", "no:cacheprovider", f"--junitxml={report}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if not report.is_file():
            raise RuntimeError((done.stdout + done.stderr)[-2000:])
        return outcome(report.read_text())


def outcome(report: str) -> Outcome:
    """Read pytest's own report."""
    rows, failures = [], []
    for case in ElementTree.fromstring(report).iter("testcase"):  # noqa: S314  written by our own pytest
        kinds = {child.tag: child for child in case}
        result = next((kind for kind in ("failure", "error", "skipped") if kind in kinds), "passed")
        message = "" if result == "passed" else (kinds[result].get("message") or "").splitlines()[0][:200]
        name = f"{case.get('classname')}::{case.get('name')}"
        rows.append({"test": name, "result": result, "why": message})
        if result in {"failure", "error"}:
            failures.append(f"{name}: {message}")
    if not rows:
        raise RuntimeError("no test was collected")
    counts = {kind: sum(row["result"] == kind for row in rows) for kind in ("passed", "skipped")}
    figures = {"passed": counts["passed"], "failed": len(failures), "skipped": counts["skipped"]}
    shown = [row for row in rows if row["result"] != "passed"] or rows[:1]
    return Outcome(
        figures,
        [Table.of("Tests that did not pass", shown)] if failures or counts["skipped"] else [],
        [],
        failures,
    )
