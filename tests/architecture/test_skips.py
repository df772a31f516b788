"""The rule of ``tests/skips.py``: what may be skipped in CI, and what then fails the run."""

import os
import re
import stat
import subprocess

import pytest

from tests.architecture.source import ROOT
from tests.skips import VARIABLE

pytest_plugins = "pytester"
MODULE = """
    import pytest

    @pytest.mark.skipif(True, reason="there is no Chromium: apt-get install chromium")
    def test_without_a_program(): ...

    def test_in_its_middle(): pytest.importorskip("no_such_package")

    @pytest.mark.parametrize("reason", [
        "no recordings at /somewhere/shared/data/esc10", "needs ../shared/data/kuberay", "needs CUDA",
        "no GPU",
    ])
    def test_allowed(reason): pytest.skip(reason)

    @pytest.mark.xfail
    def test_that_is_expected_to_fail(): assert False
"""
WHOLE = "import pytest\npytest.importorskip('no_such_package')\ndef test_it(): ..."


@pytest.fixture
def run(pytester, monkeypatch):
    """Run two modules of tests with the hooks, in CI or not; return result and reasons by test."""

    def run_tests(*, ci):
        monkeypatch.setenv(VARIABLE, "1" if ci else "")
        pytester.makepyfile(test_module=MODULE, test_whole=WHOLE)
        result = pytester.runpytest_inprocess("-p", "tests.skips", "-q", "--continue-on-collection-errors")
        found = re.findall(rf"(\S+) is skipped where {VARIABLE} is set: (.+)", result.stdout.str())
        return result, dict(found)

    return run_tests


def test_in_ci_a_skip_fails_with_its_reason_unless_the_machine_cannot_help_it(run):
    result, reasons = run(ci=True)

    result.assert_outcomes(failed=1, errors=2, skipped=4, xfailed=1)  # errors: before a test has begun
    assert result.ret != pytest.ExitCode.OK
    assert "apt-get install chromium" in reasons["test_module.py::test_without_a_program"]
    assert "no_such_package" in reasons["test_module.py::test_in_its_middle"]
    assert "no_such_package" in reasons["test_whole.py"]
    assert len(reasons) == 3


def test_elsewhere_a_skip_is_a_skip(run):
    result, reasons = run(ci=False)

    result.assert_outcomes(skipped=7, xfailed=1)
    assert (result.ret, reasons) == (pytest.ExitCode.OK, {})


@pytest.fixture
def ci(tmp_path):
    """Run ``.ci/run`` with its programs replaced by ones that write down how they are called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    log = tmp_path / "calls"

    def program(name, code="exit 0"):
        path = programs / name
        path.write_text(f'#!/bin/bash\necho "{name} $* {VARIABLE}=${{{VARIABLE}-}}" >> {log}\n{code}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def run_ci(*present, user="0", make="exit 0"):
        program("make", make)
        program("apt-get")
        program("id", f"echo {user}")
        for name in present:
            program(name)
        for name in ("bash", "dirname", "env"):
            (programs / name).exists() or (programs / name).symlink_to(f"/usr/bin/{name}")
        done = subprocess.run(
            ["/bin/bash", str(ROOT / ".ci" / "run")], env={"PATH": str(programs)}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        calls = log.read_text().splitlines()
        return done, [call for call in calls if not call.startswith("id ")]

    return run_ci


def test_ci_installs_the_programs_that_are_absent(ci):
    done, calls = ci("java")

    assert done.returncode == 0, done.stderr
    assert [call.split()[:2] for call in calls[:2]] == [["apt-get", "update"], ["apt-get", "install"]]
    assert {"chromium", "prometheus"} <= set(calls[1].split())
    assert not any("jre" in word for word in calls[1].split())


def test_ci_installs_nothing_where_everything_is_there(ci):
    _, calls = ci("chromium", "java", "promtool")

    assert not [call for call in calls if call.startswith("apt-get")]


def test_ci_installs_nothing_as_another_user(ci):
    _, calls = ci(user="1000")

    assert not [call for call in calls if call.startswith("apt-get")]


def test_ci_runs_everything_and_lets_no_skip_pass(ci):
    done, calls = ci("chromium", "java", "promtool", make='[ "$1" != lint ]')

    assert done.returncode == 1
    assert [call.split()[1] for call in calls] == ["lint", "docs", "test"]
    assert calls[-1].endswith(f"{VARIABLE}=1")


def test_ci_is_executable():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
