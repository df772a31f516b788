import logging

from mats_ray.data.failures import only_warnings, told_plainly
from mats_ray.errors import DataError

RAY_SAYS = """ray::MapBatches(_read)() (pid=7, ip=10.0.0.1)
  File "x.py", line 3, in _read
mats_ray.errors.DataError: a.csv has no column text; its header is id, Text
"""


def test_our_own_error_is_found_in_what_ray_makes_of_it():
    told = told_plainly(RuntimeError(RAY_SAYS))

    assert isinstance(told, DataError)
    assert str(told) == "a.csv has no column text; its header is id, Text"


def test_an_error_that_is_not_ours_stays_as_it_is():
    error = RuntimeError("no such thing")

    assert told_plainly(error) is error


def test_ray_data_is_quiet_for_a_while_only():
    narrator = logging.getLogger("ray.data")
    before = narrator.level
    with only_warnings():
        assert not narrator.isEnabledFor(logging.INFO)
    assert narrator.level == before
