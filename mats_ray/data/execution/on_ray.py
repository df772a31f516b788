"""How Ray Data runs here: without its own bars and narration, its failures told in this package's words."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from ray.data import DataContext, Dataset
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning
from ray.util.debug import log_once

from mats_ray.data.failures import only_warnings, told_plainly

MAX_RETRIES = 2
"""Of a batch whose process died (a segmentation fault, out of memory). Ray Data's own default is for ever."""


@contextmanager
def execution() -> Iterator[DataContext]:
    """Make a dataset and run it inside; yields the context it is made in.

    Raises:
        MATSError: Raised by a task or an actor.
        RayError: Anything else that ended the execution.
    """
    context = DataContext.get_current().copy()
    context.enable_progress_bars = context.print_on_execution_start = False
    log_once("ray_data_progress_manager_disabled")  # or Ray Data tells how to get its bars back
    with DataContext.current(context), only_warnings(), warnings.catch_warnings():
        # max_task_retries has no other way in; to be looked at with Ray 2.64, which removes this one
        warnings.simplefilter("ignore", RayDeprecationWarning)
        try:
            yield context
        except RayError as error:
            raise told_plainly(error) from error


def finished_blocks(dataset: Dataset, *, prefetch: int = 0) -> Iterator[pa.Table]:
    """Yield a dataset's blocks in the order they are finished."""
    for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=prefetch):
        assert isinstance(block, pa.Table)
        yield block
