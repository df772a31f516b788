"""The cluster a command runs on: that of a submitted job, or a local one that ends with the command."""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.data import DataContext
from ray.exceptions import RayError, RayTaskError

from mats_ray.errors import ClusterError
from mats_ray.on_ray.data import disable_output
from mats_ray.on_ray.errors import failure_reason, task_traceback
from mats_ray.redirect import STDERR, redirected

MIN_LOGICAL_CPUS = 4
_CONNECT_SECONDS = 10
_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # or a failed task's traceback is printed, on stdout, while it is retried
    "RAY_enable_output_error_log_if_still_retry": "0",
    # A node that restarts refuses connections until Ray, after 15 to 25 s, starts its actors elsewhere: the
    # retries of a batch, MAX_RETRIES in all, would be over by then.
    "RAY_task_actor_unavailable_retry_delay_base_ms": "15000",
}
"""Defaults of environment variables that Ray reads when it starts."""


@contextlib.contextmanager
def cluster(*, training: bool = False) -> Iterator[None]:
    """Join the cluster that ``RAY_ADDRESS`` names (``ray job submit`` sets it), or start one here.

    The local one counts at least four logical CPUs: Ray schedules by them, and on a small machine training
    workers would otherwise hold them all while the data tasks that feed them wait for ever.

    Args:
        training: Ray Train runs on it. Without Ray's dashboard it logs a failed query every second; all else
            does without, as a dashboard costs 150 MB and the start of ten processes before the first task.

    Raises:
        ClusterError: There is no cluster at ``RAY_ADDRESS``, none can be started, or Ray ended the work.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    with _no_stderr():
        _start(training=training)
        _print_hint_about_actors()
    disable_output(DataContext.get_current())  # training workers get a copy
    try:
        yield
    except RayTaskError as error:  # a fault of ours: the task's own traceback helps, Ray's above it does not
        traceback = task_traceback(error)
        print(traceback, file=sys.stderr)
        raise ClusterError(f"unexpected error in a task: {traceback.splitlines()[-1]}") from error
    except RayError as error:
        raise ClusterError(f"Ray ended the work: {failure_reason(error)}") from error
    finally:
        ray.shutdown()


def _start(*, training: bool) -> None:
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            _check_is_open(address)
            ray.init(logging_level=logging.ERROR, log_to_driver=False)
        else:
            # Two runs side by side are some 14 processes, most of them small; Ray warns of 8 on two cores.
            os.environ.setdefault("RAY_worker_maximum_startup_concurrency", str(2 * MIN_LOGICAL_CPUS))
            ray.init(
                address="local",
                num_cpus=max(MIN_LOGICAL_CPUS, os.cpu_count() or 1),
                include_dashboard=training,
                dashboard_port=0,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        where = f"RAY_ADDRESS={address} cannot be joined" if address else "Ray cannot be started here"
        raise ClusterError(f"{where}: {failure_reason(error)}") from error


def _check_is_open(address: str) -> None:
    """Find out at once that nothing listens at ``host:port``: Ray would try again for minutes.

    Raises:
        ConnectionError: Nothing does. Other forms of an address (auto, ray://...) are left to Ray.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(
            f"nothing answers there ({error}); unset it to run on this machine alone"
        ) from None


def _print_hint_about_actors() -> None:
    """Have Ray print, where nobody sees it, what it prints once in a process: an actor may fail to restart.

    It says so of every actor that is constructed from objects. Those of Ray Data's actors last as long as the
    job, as the driver holds them (tests/integration/test_terminal.py). This actor is never placed.
    """
    actor: Any = _Nowhere.remote(ray.put(None))
    ray.kill(actor)


@ray.remote(max_restarts=1, resources={"none": 1})
class _Nowhere:
    def __init__(self, _: None) -> None: ...


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Discard what this process prints to stderr, its C++ included: Ray's failures are raised as well."""
    with Path(os.devnull).open("wb") as nowhere, redirected([STDERR], nowhere):
        yield
