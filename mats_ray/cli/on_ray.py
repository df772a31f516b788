"""The cluster a command runs on: that of a submitted job, or a local one that ends with the command."""

import contextlib
import logging
import os
from collections.abc import Iterator

import ray
from ray.data import DataContext

from mats_ray.on_ray.data import disable_output

MIN_LOGICAL_CPUS = 4


@contextlib.contextmanager
def cluster(*, training: bool = False) -> Iterator[None]:
    """Join the cluster that ``RAY_ADDRESS`` names (``ray job submit`` sets it), or start one here.

    The local one counts at least four logical CPUs: Ray schedules by them, and on a small machine training
    workers would otherwise hold them all while the data tasks that feed them wait for ever.

    Args:
        training: Ray Train runs on it. Without Ray's dashboard it logs a failed query every second; all else
            does without, as a dashboard costs 150 MB and the start of ten processes before the first task.
    """
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    if os.environ.get("RAY_ADDRESS"):
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
    disable_output(DataContext.get_current())  # training workers get a copy
    try:
        yield
    finally:
        ray.shutdown()
