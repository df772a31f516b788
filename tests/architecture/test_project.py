"""The habits of a project: changelog, version, workflows, forms; what a release holds."""

import re
import tomllib

import pytest
import yaml

import mats_ray
from tests.architecture.source import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = {path.name: yaml.safe_load(path.read_text()) for path in (GITHUB / "workflows").glob("*.yaml")}
JOBS = [
    pytest.param(name, job, id=f"{file} {name}")
    for file, workflow in WORKFLOWS.items()
    for name, job in workflow["jobs"].items()
]
every_job = pytest.mark.parametrize(("name", "job"), JOBS)
PINNED = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40}")
CHANGES = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
"""The kinds of changes of Keep a Changelog, in its order."""
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
SEMANTIC = r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?"


def triggers(workflow):
    return workflow[True]  # `on` is a boolean of YAML 1.1


def test_the_workflows_are_there():
    assert set(WORKFLOWS) == {"ci.yaml", "nightly.yaml", "release.yaml"}
    assert {"lint", "test", "docs", "dist", "image"} == set(WORKFLOWS["ci.yaml"]["jobs"])


@pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=WORKFLOWS)
def test_a_workflow_may_only_read(workflow):
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job.get("permissions", {}).items() <= {"contents": "read", "id-token": "write"}.items()


def test_only_publishing_proves_who_it_is_and_it_runs_on_tags_alone():
    allowed = [
        (file, name)
        for file, workflow in WORKFLOWS.items()
        for name, job in workflow["jobs"].items()
        if "id-token" in job.get("permissions", {})
    ]
    publish = WORKFLOWS["release.yaml"]["jobs"]["publish"]

    assert allowed == [("release.yaml", "publish")]
    assert set(triggers(WORKFLOWS["release.yaml"])["push"]) == {"tags"}
    assert (publish["environment"], publish["needs"]) == ("release", "build")
    assert not any("run" in step for step in publish["steps"])  # what is trusted runs nothing of its own
    assert "secrets." not in (GITHUB / "workflows" / "release.yaml").read_text()


def test_pull_requests_are_tested_without_the_rights_of_the_repository():
    on = triggers(WORKFLOWS["ci.yaml"])

    assert set(on) == {"push", "pull_request"}  # never pull_request_target
    assert on["push"] == {"branches": ["main"]}


@every_job
def test_actions_are_pinned_by_commit_and_jobs_end(name, job):
    assert isinstance(job["timeout-minutes"], int)
    assert "latest" not in job["runs-on"]
    for step in job["steps"]:
        assert len({"uses", "run"} & set(step)) == 1
        if "uses" in step:
            assert PINNED.fullmatch(step["uses"]), step["uses"]
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False


def test_the_version_of_a_pinned_action_stands_beside_it():
    for path in (GITHUB / "workflows").glob("*.yaml"):
        uses = re.findall(r"uses: (\S+)(.*)", path.read_text())
        assert all(re.fullmatch(r"  # v\d+\.\d+\.\d+", note) for _, note in uses), path
        assert len({pin for pin, _ in uses}) == len({pin.split("@")[0] for pin, _ in uses})


@every_job
def test_a_job_takes_nothing_of_an_event_into_a_command(name, job):
    assert not any("${{" in step.get("run", "") for step in job["steps"])


def test_the_jobs_are_the_targets_of_make():
    makefile = (ROOT / "Makefile").read_text()
    for name, job in WORKFLOWS["ci.yaml"]["jobs"].items():
        commands = " ".join(step.get("run", "") for step in job["steps"])
        assert f"make {name}" in commands
        assert re.search(rf"^{name}:", makefile, re.M), name
    assert "make dist" in str(WORKFLOWS["release.yaml"]["jobs"]["build"]["steps"])


def test_no_skip_passes_in_the_workflow_either():
    assert WORKFLOWS["ci.yaml"]["jobs"]["test"]["steps"][-1]["env"]["MATS_FAIL_ON_SKIP"] == "1"


def test_a_release_needs_tag_version_and_changelog_to_agree():
    build = WORKFLOWS["release.yaml"]["jobs"]["build"]
    checks = [step["run"] for step in build["steps"] if step.get("run", "").startswith("grep")]

    assert any("mats_ray/version.py" in check for check in checks)
    assert any("CHANGELOG.md" in check for check in checks)
    assert f'__version__ = "{mats_ray.__version__}"\n' in (ROOT / "mats_ray" / "version.py").read_text()


@pytest.mark.parametrize(
    "form", sorted((GITHUB / "ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda path: path.stem
)
def test_an_issue_form_is_one(form):
    tree = yaml.safe_load(form.read_text())
    fields = [field for field in tree["body"] if field["type"] != "markdown"]

    assert {"name", "description", "body"} <= set(tree)
    assert {field["type"] for field in fields} <= {"textarea", "input", "dropdown", "checkboxes"}
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_dependabot_watches_actions_packages_and_the_image():
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text())["updates"]

    assert {one["package-ecosystem"] for one in updates} == {"github-actions", "pip", "docker"}
    assert all(one["schedule"]["interval"] in ("weekly", "monthly") for one in updates)


def test_the_policy_of_security_says_where_and_what():
    text = (ROOT / "SECURITY.md").read_text()

    assert {"## Reporting", "## What is meant to hold"} <= set(text.splitlines())
    assert "not open an issue" in text


def test_the_changelog_is_in_the_form_of_keep_a_changelog():
    title, *releases = re.split(r"^## ", CHANGELOG, flags=re.M)
    assert title.startswith("# Changelog\n")
    assert "keepachangelog.com/en/1.1.0" in title
    assert "semver.org" in title
    assert releases[0].startswith("[Unreleased]\n")
    for release in releases:
        heading, _, body = release.partition("\n")
        assert heading == "[Unreleased]" or re.fullmatch(
            rf"\[{SEMANTIC}\] - \d{{4}}-\d\d-\d\d( \[YANKED\])?", heading
        )
        kinds = re.findall(r"^### (.+)$", body, re.M)
        assert kinds == [kind for kind in CHANGES if kind in kinds], (
            "kinds of changes, each once, in their order"
        )
        for part in re.split(r"^### .+$", body, flags=re.M)[1:]:
            lines = part.strip().splitlines()
            assert lines
            assert all(line.startswith(("- ", "  ")) or not line for line in lines), part


def test_releases_are_in_order_newest_first():
    versions = re.findall(rf"^## \[({SEMANTIC})\]", CHANGELOG, re.M)
    numbers = [tuple(map(int, version.split("-")[0].split("."))) for version in versions]

    assert numbers == sorted(numbers, reverse=True)
    assert len(set(versions)) == len(versions)


def test_the_version_is_semantic_and_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())

    assert re.fullmatch(SEMANTIC, mats_ray.__version__)
    assert mats_ray.__version__ == project["version"] == str(citation["version"])


def test_the_tools_are_locked_and_stay_out_of_the_environment_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {re.split(r"[\[<>=]", one)[0] for one in project["dependency-groups"]["tools"]}
    tools = re.findall(r"^([\w.-]+)==", (ROOT / "requirements-tools.lock").read_text(), re.M)
    package = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.M)

    assert wanted <= set(tools)
    assert not wanted & set(package)
