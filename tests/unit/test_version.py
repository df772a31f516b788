"""One version: the package's own and the one in pyproject.toml."""

import tomllib
from pathlib import Path

import mats_ray
from mats_ray.version import __version__


def test_the_package_and_pyproject_name_the_same_version():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]

    assert mats_ray.__version__ == __version__ == project["version"]
