"""Running Ray Data: no progress bars or log lines of its own, and failures as this package's errors."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import ray
from ray.data import DataContext, Dataset
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning
from ray.util.debug import log_once
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mats_ray.on_ray.errors import own_error

MAX_RETRIES = 2
"""Retries of a batch whose process died (a segmentation fault, no memory left); Ray Data has no limit."""


@contextmanager
def execution() -> Iterator[DataContext]:
    """Make a dataset and run it inside; yields the context it is made in.

    Raises:
        MATSError: Raised by a task or an actor.
        RayError: Anything else that ended the execution.
    """
    context = DataContext.get_current().copy()
    disable_output(context)
    with DataContext.current(context), _only_warnings(), _no_tracebacks(), warnings.catch_warnings():
        # max_task_retries has no other way in; to be looked at with Ray 2.64, which removes this one
        warnings.simplefilter("ignore", RayDeprecationWarning)
        try:
            yield context
        except RayError as error:
            if (own := own_error(error)) is None:
                raise  # "from error" would make it its own cause
            raise own from error


def finished_blocks(dataset: Dataset, *, prefetch: int = 0) -> Iterator[pa.Table]:
    """Yield a dataset's blocks in the order they are finished."""
    for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=prefetch):
        assert isinstance(block, pa.Table)
        yield block


def this_node() -> NodeAffinitySchedulingStrategy:
    """Return the strategy of what must stay on the node of this process, and may end with it."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def disable_output(context: DataContext) -> None:
    """Turn off Ray Data's progress bars and the plan it prints before an execution."""
    context.enable_progress_bars = context.print_on_execution_start = False
    log_once("ray_data_progress_manager_disabled")  # or Ray Data logs how to get its bars back


_REPORTERS = (
    "ray.data.exceptions",
    "ray.data._internal.execution.streaming_executor_state",
    "ray.data._internal.execution.operators.actor_pool_map_operator",
)
"""Loggers of Ray Data that print, with tracebacks, the failure that is then raised here."""


@contextmanager
def _no_tracebacks() -> Iterator[None]:
    """Leave a failure's tracebacks, fifty lines each, to Ray's log file: the caller gets the failure."""
    loggers = [logging.getLogger(name) for name in _REPORTERS]
    for one in loggers:
        one.addFilter(_hide_error)
    try:
        yield
    finally:
        for one in loggers:
            one.removeFilter(_hide_error)


def _hide_error(record: logging.LogRecord) -> bool:
    record.hide = record.levelno >= logging.ERROR  # the filter of Ray Data's console handler looks for it
    return True


@contextmanager
def _only_warnings() -> Iterator[None]:
    """Leave the progress that Ray Data logs out of the log."""
    ray_log = logging.getLogger("ray.data")
    before = ray_log.level
    ray_log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        ray_log.setLevel(before)
