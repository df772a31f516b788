"""The cluster of a command: whatever Ray fails with is one line; its own terminal stays the command's."""

import os
import sys

import pytest
import ray
from ray.exceptions import OutOfMemoryError, RayTaskError, UserCodeException

from mats_ray.cli import on_ray
from mats_ray.errors import ClusterError, DataError
from tests.service import free_port


@pytest.fixture
def cluster(monkeypatch):
    """Return ``cluster`` without Ray: what starts it does nothing."""
    for name in on_ray._SETTINGS:
        monkeypatch.setenv(name, os.environ.get(name, "0"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_maximum_startup_concurrency", "8")
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(on_ray, "_print_hint_about_actors", lambda: None)
    return on_ray.cluster


def test_a_cluster_that_cannot_be_joined_is_named_in_one_line(cluster, monkeypatch, capfd):
    def fail(**_):
        os.write(2, b"gcs_client.cc:210: Failed to get cluster ID\n" * 20)
        raise ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379")

    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr(on_ray, "_check_is_open", lambda address: None)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")

    with pytest.raises(ClusterError) as raised, cluster():
        raise AssertionError

    wanted = "RAY_ADDRESS=10.0.0.1:6379 cannot be joined: Failed to connect to Ray cluster at 10.0.0.1:6379"
    assert str(raised.value) == wanted
    assert capfd.readouterr() == ("", "")


def test_a_cluster_that_is_gone_is_one_line_at_once(cluster, monkeypatch):
    port = free_port()  # nothing listens there
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")

    wanted = (
        rf"^RAY_ADDRESS=127\.0\.0\.1:{port} cannot be joined: nothing answers there \(.*refused\); unset it"
    )
    with pytest.raises(ClusterError, match=wanted), cluster():
        raise AssertionError


@pytest.mark.parametrize("address", ["auto", "ray://127.0.0.1:1", "local"])
def test_other_forms_of_an_address_are_rays_to_check(cluster, monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)

    with cluster():
        pass


def test_stderr_is_there_again_once_ray_has_started(cluster, capfd):
    with cluster():
        os.write(2, b"of a library in C++\n")
        sys.stderr.write("of the command\n")

    assert capfd.readouterr().err == "of a library in C++\nof the command\n"


def test_a_fault_of_ours_in_a_task_shows_its_own_traceback_and_not_rays(cluster, capfd):
    cause = RayTaskError("_scatter", "Traceback:\n  File x.py, line 3\nKeyError: 'text'\n", KeyError("text"))
    text = (
        f"{cause.traceback_str}\n\nThe above exception was the direct cause of the following exception:\n\nT"
    )
    error = RayTaskError("MapBatches(_scatter)", text, UserCodeException("UDF failed"))

    with pytest.raises(ClusterError, match=r"^unexpected error in a task: KeyError: 'text'$"), cluster():
        raise error

    printed = capfd.readouterr().err
    assert "File x.py, line 3\nKeyError: 'text'" in printed
    assert "direct cause" not in printed


def test_what_ray_ends_the_work_with_is_one_line(cluster, capfd):
    with pytest.raises(ClusterError, match=r"^Ray ended the work: Task was killed due to memory$"), cluster():
        raise OutOfMemoryError("Task was killed due to memory")

    assert capfd.readouterr() == ("", "")


def test_our_own_errors_pass(cluster):
    with pytest.raises(DataError, match="no rows"), cluster():
        raise DataError("no rows")
