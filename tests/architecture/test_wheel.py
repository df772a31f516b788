"""What is released: an sdist, the wheel made from it, and that wheel installed, run, and complete.

Built by setuptools without a network, in copies: the tree stays as it is. ``make dist`` does the same with
``build`` and ``twine``.
"""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

import mats_ray
from tests.architecture.source import ROOT

HOOK = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "mats_ray")


def data_files():
    """The files of the package that are no Python modules: page, examples, templates, pictures."""
    found = (path for path in (ROOT / "mats_ray").rglob("*") if path.is_file())
    return {
        path.relative_to(ROOT).as_posix()
        for path in found
        if path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    }


def build(kind, source, target):
    command = [sys.executable, "-c", HOOK, f"build_{kind}", str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    for name in BUILT_FROM:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, source / name)
    return build("sdist", source, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    unpacked = tmp_path_factory.mktemp("unpacked")
    # extractall knows `filter` since Python 3.11.4 only, and warns without it since 3.12
    subprocess.run([sys.executable, "-m", "tarfile", "-e", sdist, unpacked], check=True)
    return build("wheel", next(unpacked.iterdir()), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel in a folder of its own; what it depends on comes from this environment."""
    folder = tmp_path_factory.mktemp("installed")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-qq",
        "--no-deps",
        "--no-index",
        "--target",
        str(folder),
        str(wheel),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def run(installed, tmp_path_factory):
    """Run the installed command ``mats``, away from the repository."""
    cwd = tmp_path_factory.mktemp("elsewhere")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run_command(*words):
        return subprocess.run(
            words,
            cwd=cwd,
            env=environment | {"PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run_command


def test_the_names_of_both_carry_the_version(sdist, wheel):
    assert sdist.name == f"mats_ray-{mats_ray.__version__}.tar.gz"
    assert wheel.name == f"mats_ray-{mats_ray.__version__}-py3-none-any.whl"


def test_the_wheel_holds_the_package_whole_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mats_ray").rglob("*.py")}

    assert modules | data_files() <= names
    assert {name.split("/")[0] for name in names} == {
        "mats_ray",
        f"mats_ray-{mats_ray.__version__}.dist-info",
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)


def test_page_examples_templates_and_types_are_among_its_data():
    kinds = {
        "serving/http/page/examples/dog.ogg",
        "evaluate/report/page.html",
        "toy/report/page.html",
        "py.typed",
    }

    assert {f"mats_ray/{name}" for name in kinds} <= data_files()


def test_its_metadata_name_python_and_what_it_needs(wheel):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"mats_ray-{mats_ray.__version__}.dist-info/METADATA").decode()

    assert f"Requires-Python: {project['requires-python']}" in metadata
    assert "License-Expression: Apache-2.0" in metadata
    assert f"Requires-Dist: ray[data,default,serve,train]=={ray_version(project)}" in metadata
    assert {f"Provides-Extra: {extra}" for extra in project["optional-dependencies"]} <= set(
        metadata.splitlines()
    )


def ray_version(project):
    return next(one.partition("==")[2] for one in project["dependencies"] if one.startswith("ray["))


def test_the_installed_package_is_what_runs(run, installed):
    done = run(sys.executable, "-c", "import mats_ray; print(mats_ray.__file__)")

    assert done.stdout.startswith(str(installed))


def test_its_command_says_what_it_can(run, installed):
    help_, version = (
        run(str(installed / "bin" / "mats"), "--help"),
        run(str(installed / "bin" / "mats"), "--version"),
    )

    assert help_.returncode == 0, help_.stderr
    assert {"demo", "train", "caption", "serve"} <= set(help_.stdout.split())
    assert version.stdout.strip() == f"mats_ray {mats_ray.__version__}"


def test_its_command_shows_a_configuration(run, installed):
    done = run(str(installed / "bin" / "mats"), "config", "show")

    assert done.returncode == 0, done.stderr
    assert "global_batch_size: 96" in done.stdout


def test_its_command_examines_the_machine(run, installed):
    done = run(str(installed / "bin" / "mats"), "doctor")

    assert {"torch", "ray", "Python"} <= {line.split()[1] for line in done.stdout.splitlines()}
    assert "Traceback" not in done.stderr
