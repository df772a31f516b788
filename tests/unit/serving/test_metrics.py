import json
import re
from pathlib import Path

import pytest

from mats_ray.serving.metrics import METRICS, Metrics, PrometheusSink

DASHBOARD = Path(__file__).parents[3] / "deploy" / "grafana" / "mats.json"


def test_each_kind_is_shown():
    sink = PrometheusSink()
    metrics = Metrics([sink])

    metrics.record("mats_rejected_total", reason="empty")
    metrics.record("mats_requests_in_flight", 3)
    metrics.record("mats_batch_size", 5)

    text = sink.text().decode()
    assert 'mats_rejected_total{reason="empty"} 1.0' in text
    assert "mats_requests_in_flight 3.0" in text
    assert 'mats_batch_size_bucket{le="8.0"} 1.0' in text


def test_an_undeclared_name_is_an_error():
    with pytest.raises(KeyError):
        Metrics().record("mats_typo")


def test_every_metric_is_on_the_dashboard_and_none_that_is_not_there():
    dashboard = json.loads(DASHBOARD.read_text())
    queries = " ".join(t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", ()))

    shown = {name.removesuffix("_bucket") for name in re.findall(r"mats_[a-z_]+", queries)}
    replicas_own = {"mats_answers_running", "mats_answers_waiting"}
    assert shown == set(METRICS) | replicas_own
