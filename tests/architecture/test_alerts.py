"""The alerts: their metrics exist, each has a runbook, and promtool finds that they fire when they should."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import ray
import yaml

from docs.site.metrics_reference import replica_metrics
from mats_ray.serving.metrics import METRICS
from tests.architecture.source import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
RULES = FOLDER / "alerts.yaml"
TESTS = FOLDER / "alerts_test.yaml"
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
OWN = re.compile(r"(?:ray_|\(ray_\)\?)?(mats_[a-z_]+)")
RAYS = re.compile(r"\bray_((?:serve|node)_[a-z_]+)")
every_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="there is no promtool: apt-get install prometheus"
)


@cache
def declared_by_ray():
    """The names that Ray's own code gives to metrics of Serve and of nodes."""
    folder = Path(ray.__file__).parent
    texts = [path.read_text() for path in (folder / "serve" / "_private").glob("*.py")]
    texts.append((folder / "dashboard" / "modules" / "reporter" / "reporter_agent.py").read_text())
    return {name for text in texts for name in re.findall(r'"((?:serve|node)_[a-z_]+)"', text)}


@every_alert
def test_the_metrics_of_an_alert_exist(alert):
    own = {name.removesuffix("_bucket") for name in OWN.findall(alert["expr"])}
    rays = set(RAYS.findall(alert["expr"]))

    assert own or rays
    assert own <= set(METRICS) | set(replica_metrics())
    assert rays <= declared_by_ray()


@every_alert
def test_the_labels_of_an_alert_are_those_of_its_metric(alert):
    for name, selector in re.findall(r'\{__name__=~"\(ray_\)\?(mats_[a-z_]+)"([^}]*)\}', alert["expr"]):
        labels = set(re.findall(r"(\w+)=", selector))
        assert labels <= set(METRICS[name.removesuffix("_bucket")].labels)


@every_alert
def test_an_alert_has_a_runbook_with_what_to_look_at_and_do(alert):
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    section = re.search(rf"^### {alert['alert']}\n(.*?)(?=^##|\Z)", OPERATIONS, re.M | re.S)

    assert (page, anchor) == ("docs/operations.md", alert["alert"].lower())
    assert section, "docs/operations.md has no such section"
    assert {"**Means**", "**Look**", "**Do**"} <= set(re.findall(r"\*\*\w+\*\*", section[1]))
    assert alert["labels"]["severity"] in ("page", "ticket")


def test_no_runbook_is_of_an_alert_that_is_gone():
    assert set(re.findall(r"^### (MATS\w+)", OPERATIONS, re.M)) == {alert["alert"] for alert in ALERTS}


def test_every_alert_is_tested_both_ways():
    cases = [case for test in yaml.safe_load(TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    names = {alert["alert"] for alert in ALERTS}

    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names


@needs_promtool
@pytest.mark.parametrize("command", [("check", "rules", RULES), ("test", "rules", TESTS)], ids=lambda c: c[0])
def test_promtool_agrees(command):
    done = subprocess.run(["promtool", *map(str, command)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
