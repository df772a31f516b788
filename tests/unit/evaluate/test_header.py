"""The header of a log says what made the answers."""

import subprocess

from mats_ray.evaluate import header as module
from mats_ray.evaluate.header import git_revision, package_versions
from tests.unit.evaluate.logs import header


def test_versions_name_a_package_that_is_absent(monkeypatch):
    monkeypatch.setattr(module, "PACKAGES", ("torch", "no-such-package"))

    versions = package_versions()

    assert versions["torch"].startswith("2.")
    assert versions["no-such-package"] == "not installed"


def test_the_revision_of_a_checkout_is_gits_and_empty_outside_one(monkeypatch):
    def refuse(*args, **kwargs):
        raise subprocess.CalledProcessError(128, "git")

    here = git_revision()
    monkeypatch.setattr(subprocess, "run", refuse)

    assert here.strip() == here
    assert git_revision() == ""


def test_the_example_of_a_prompt_and_paths_do_not_tell_evaluations_apart():
    one = header(annotations="a.csv", prompt={"mode": "none", "prefix": "", "example": "x"})
    other = header(annotations="b.csv", prompt={"mode": "none", "prefix": "", "example": "y"})

    assert one.identity == other.identity
