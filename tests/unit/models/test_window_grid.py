"""Positions of windows."""

import pytest

from mats_ray.models.window_grid import WindowGrid


@pytest.mark.parametrize("num_samples", [1, 99, 100, 101, 102, 199, 200, 201, 202, 250, 1000])
@pytest.mark.parametrize("hop", [100, 60, 1])
def test_windows_reach_over_all_samples(num_samples, hop):
    windows = WindowGrid.of(100, 100, hop=hop)
    bounds = windows.bounds(num_samples)

    assert len(bounds) == windows.count(num_samples)
    assert [start for start, _ in bounds] == [n * hop for n in range(len(bounds))]
    assert all(end - start == 100 for start, end in bounds[:-1])
    start, end = bounds[-1]
    assert end == num_samples
    assert 0 < end - start <= 101
    assert len(bounds) == 1 or end - start > 101 - hop


def test_a_rest_of_under_ten_milliseconds_is_no_window():
    assert WindowGrid.of(160_000, 16_000).bounds(160_016) == [(0, 160_016)]
    assert WindowGrid.of(160_000, 16_000).bounds(160_161) == [(0, 160_000), (160_000, 160_161)]
