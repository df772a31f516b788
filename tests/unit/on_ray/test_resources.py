"""A job that will wait for resources says so, with what makes up its number."""

import pytest
import ray

from mats_ray.on_ray.resources import warn_if_too_few


@pytest.mark.parametrize(
    ("needed", "warning"),
    [
        (4, ""),
        (4.5, "captioning needs 4.5 CPUs (2 x 2 and 0.5), the cluster has 4; it waits until there are more"),
    ],
)
def test_a_warning_names_need_and_supply(monkeypatch, caplog, needed, warning):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})

    warn_if_too_few("captioning", "CPU", needed, terms="2 x 2 and 0.5")

    assert caplog.messages == ([warning] if warning else [])


def test_a_cluster_without_gpus_has_none(monkeypatch, caplog):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})

    warn_if_too_few("embedding", "GPU", 1, terms="1 x data.embed.gpus_per_actor=1")

    assert "needs 1 GPUs (1 x data.embed.gpus_per_actor=1), the cluster has 0" in caplog.text
