"""Ray Data runs without output of its own, and fails with our errors."""

import importlib
import logging

import pytest
from ray.data import DataContext
from ray.data._internal.logging import HiddenRecordFilter
from ray.exceptions import RayError

from mats_ray.errors import DataError
from mats_ray.on_ray.data import _REPORTERS, execution


def test_ray_data_is_quiet_while_it_runs_only():
    ray_log, before = logging.getLogger("ray.data"), DataContext.get_current().print_on_execution_start
    level = ray_log.level
    with execution() as context:
        assert not ray_log.isEnabledFor(logging.INFO)
        assert not context.enable_progress_bars
        assert not context.print_on_execution_start
    assert ray_log.level == level
    assert DataContext.get_current().print_on_execution_start is before


def is_hidden(log, level):
    """Whether Ray Data's console handler leaves out what its logger is given."""
    record = log.makeRecord(log.name, level, "x.py", 1, "Full stack trace", (), None)
    log.filter(record)
    return not HiddenRecordFilter().filter(record)


@pytest.mark.parametrize("name", _REPORTERS)
def test_ray_data_prints_no_traceback_of_what_it_raises(name):
    log = importlib.import_module(name).logger
    with execution():
        assert is_hidden(log, logging.ERROR)
        assert not is_hidden(log, logging.WARNING)
    assert not is_hidden(log, logging.ERROR)


def test_an_error_of_ours_ends_the_execution_as_itself():
    with pytest.raises(DataError, match=r"^a\.csv has no rows$"), execution():
        raise RayError("Traceback ...\nmats_ray.errors.DataError: a.csv has no rows\n")


def test_another_error_ends_it_as_it_is():
    error = RayError("the object store is full")
    with pytest.raises(RayError) as raised, execution():
        raise error
    assert raised.value is error
    assert raised.value.__cause__ is None
