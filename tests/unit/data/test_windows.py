"""Windows lie where they should, however the audio comes in blocks."""

import itertools

import numpy as np
import pytest

from mats_ray.data.windows import Cut, cut_blocks

RATE = 100


def cut(samples_T, block, seconds, hop=None):
    blocks = [samples_T[start : start + block] for start in range(0, len(samples_T), block)]
    return list(cut_blocks(blocks, RATE, Cut(seconds=seconds, hop=hop or seconds)))


@pytest.mark.parametrize("block", [1, 7, 100, 250, 10_000])
@pytest.mark.parametrize(("seconds", "hop"), [(1, 1), (1, 0.25), (2.5, 1.5), (30, 10)])
@pytest.mark.parametrize("length", [1, 99, 100, 101, 102, 103, 1000, 1033])
def test_windows_are_those_of_the_whole(block, seconds, hop, length):
    samples = np.arange(length, dtype=np.float32)
    windows = cut(samples, block, seconds, hop)

    for n, window in enumerate(windows):
        start, end = round(n * hop * RATE), round(window.end_s * RATE)
        assert window.start_s == start / RATE
        np.testing.assert_array_equal(window.samples, samples[start:end])
        assert window.is_last == (n == len(windows) - 1)
        assert window.is_last or end - start == seconds * RATE
    assert end == length  # every sample is heard
    assert end - start <= seconds * RATE + 1


def test_a_rest_too_short_to_mean_anything_belongs_to_the_window_before():
    assert [window.end_s for window in cut(np.zeros(201, np.float32), 50, 1)] == [1, 2.01]
    assert [window.end_s for window in cut(np.zeros(202, np.float32), 50, 1)] == [1, 2, 2.02]


def test_what_was_whole_comes_before_the_error():
    def blocks():
        yield np.zeros(250, np.float32)
        raise OSError

    windows = cut_blocks(blocks(), RATE, Cut(seconds=1, hop=1))
    assert [window.is_last for window in itertools.islice(windows, 2)] == [False, False]
    with pytest.raises(OSError):  # noqa: PT011
        next(windows)


def test_ten_hours_are_never_held():
    second = np.zeros(8_000, np.float32)
    blocks = itertools.repeat(second, 36_000)
    held, count, window = 0, 0, None
    for count, window in enumerate(  # noqa: B007
        cut_blocks(blocks, 8_000, Cut(seconds=10, hop=10)), start=1
    ):
        held = max(held, window.samples.base.nbytes if window.samples.base is not None else 0)
    assert (count, window.end_s) == (3600, 36_000)
    assert held < 12 * second.nbytes
