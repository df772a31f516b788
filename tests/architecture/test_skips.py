"""The rule of ``tests/skips.py``: what may be skipped in CI, and what then fails the run."""

import os
import stat
import subprocess

import pytest

from tests.architecture.source import ROOT
from tests.skips import VARIABLE

pytest_plugins = "pytester"
NO_CHROMIUM = "there is no Chromium: apt-get install chromium"
ALLOWED = (
    "no recordings at /somewhere/shared/data/esc10",
    "needs ../shared/data/kuberay",
    "needs CUDA",
    "there is no GPU",
)


@pytest.fixture
def run(pytester, monkeypatch):
    """Run one module of tests with the hooks, in CI or not; yields the outcomes and the output."""

    def run_tests(code, *, ci=True):
        monkeypatch.setenv(VARIABLE, "1" if ci else "")
        pytester.makepyfile(code)
        result = pytester.runpytest_inprocess("-p", "tests.skips", "-p", "no:randomly", "-q")
        return result, result.stdout.str()

    return run_tests


def skipped(reason):
    return f"import pytest\n@pytest.mark.skipif(True, reason={reason!r})\ndef test_it(): ...\n"


def test_a_skip_fails_in_ci_with_its_reason(run):
    result, output = run(skipped(NO_CHROMIUM))

    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert f"test_it is skipped where {VARIABLE} is set: Skipped: {NO_CHROMIUM}" in output


def test_a_skip_in_the_middle_of_a_test_fails_too(run):
    result, output = run("import pytest\ndef test_it(): pytest.importorskip('no_such_package')")

    result.assert_outcomes(failed=1)
    assert "no_such_package" in output


def test_a_module_that_is_skipped_whole_fails_too(run):
    result, output = run("import pytest\npytest.importorskip('no_such_package')\ndef test_it(): ...")

    result.assert_outcomes(errors=1)
    assert result.ret != pytest.ExitCode.OK
    assert "no_such_package" in output


@pytest.mark.parametrize("reason", ALLOWED)
def test_what_a_machine_cannot_have_may_be_missing(run, reason):
    result, _ = run(skipped(reason))

    result.assert_outcomes(skipped=1)
    assert result.ret == pytest.ExitCode.OK


def test_an_expected_failure_is_no_skip(run):
    result, _ = run("import pytest\n@pytest.mark.xfail\ndef test_it(): assert 0")

    result.assert_outcomes(xfailed=1)


def test_elsewhere_a_skip_is_a_skip(run):
    result, _ = run(skipped(NO_CHROMIUM), ci=False)

    result.assert_outcomes(skipped=1)


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
