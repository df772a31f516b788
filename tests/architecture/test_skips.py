"""The rule of ``tests/skips.py``: what may be skipped in CI, and what then fails the run."""

import re

import pytest

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
