"""A file is complete once, in whatever order its windows come, and however often."""

import itertools

import numpy as np
import pytest

from mats_ray.caption.pooling import WindowPool, WindowSum
from mats_ray.caption.rows import RowError


def windows(first, stop, *, is_last=False, path="a.wav", error=None):
    seconds = [*range(1, 8)][first:stop]
    return WindowSum(
        path=path,
        first=first,
        stop=stop,
        is_last=is_last,
        total_C=np.array([sum(seconds), -1.0 * len(seconds)]),
        covered_s=sum(seconds),
        end_s=float(stop),
        error=error,
    )


PARTS = [windows(0, 3), windows(3, 4), windows(4, 7, is_last=True)]


@pytest.mark.parametrize("parts", list(itertools.permutations(PARTS)))
def test_the_last_missing_windows_complete_a_file(parts):
    pool = WindowPool()
    *before, whole = [pool.add(part) for part in parts]

    assert before == [None, None]
    assert whole.is_whole
    assert (whole.first, whole.stop, whole.covered_s, whole.end_s) == (0, 7, 28, 7)
    assert whole.total_C.tolist() == [28, -7]


def test_files_do_not_mix():
    pool = WindowPool()
    assert pool.add(windows(0, 3)) is None
    assert pool.add(windows(3, 4, is_last=True, path="b.wav")) is None
    assert pool.add(windows(3, 4, is_last=True)).path == "a.wav"


def test_a_repeated_batch_changes_nothing():
    pool = WindowPool()
    first, second, last = PARTS
    assert [pool.add(part) for part in (first, first, last, last)] == [None] * 4

    assert pool.add(second).covered_s == 28  # its process may die before the rows are written
    assert pool.add(second).covered_s == 28
    assert pool.add(first) is None  # or that of a batch before, and the rows must not be written twice


def test_a_file_with_its_rows_is_forgotten():
    pool = WindowPool()
    for part in PARTS:
        pool.add(part)

    pool.remove(["a.wav", "b.wav"])

    assert not pool._files


def test_the_first_error_counts():
    pool = WindowPool()
    early, late = RowError("not_finite", "early"), RowError("damaged", "late")
    pool.add(windows(3, 4, is_last=True, error=late))

    assert pool.add(windows(0, 3, error=early)).error == early


def test_a_file_decoded_again_may_end_earlier():
    pool = WindowPool()
    pool.add(PARTS[1])

    assert pool.add(windows(0, 1, is_last=True, error=RowError("changed", "changed"))).stop == 1


def test_the_mean_is_weighted_by_seconds_and_of_length_1_if_normalised():
    whole = PARTS[0].followed_by(PARTS[1]).followed_by(PARTS[2])

    assert whole.mean(normalize=False).tolist() == [1, -0.25]
    assert whole.mean(normalize=True).tolist() == pytest.approx([4 / 17**0.5, -1 / 17**0.5])
    assert whole.mean(normalize=True).dtype == np.float32
