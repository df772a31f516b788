"""Measures over selections, and how certain they are."""

import numpy as np
import pytest

from mats_ray.evaluate.measure import NUM_RESAMPLES, NUM_SLOW_RESAMPLES, Measure, difference

N = 500
ALL = np.arange(N)


@pytest.fixture
def values():
    return np.random.default_rng(1).normal(3, 2, N)


def test_a_mean_has_its_value_and_the_analytic_standard_error(values):
    estimate = Measure.mean(values).estimate(ALL)

    assert estimate.value == pytest.approx(values.mean())
    assert estimate.n == N
    assert estimate.error == pytest.approx(values.std(ddof=1) / np.sqrt(N), rel=0.06)


def test_the_interval_of_a_mean_is_two_errors_on_each_side(values):
    estimate = Measure.mean(values).estimate(ALL)

    assert estimate.high - estimate.value == pytest.approx(1.96 * estimate.error, rel=0.1)
    assert estimate.value - estimate.low == pytest.approx(1.96 * estimate.error, rel=0.1)


def test_a_share_of_all_or_none_has_no_error():
    estimate = Measure.mean(np.ones(N)).estimate(ALL)

    assert (estimate.value, estimate.error, estimate.low, estimate.high) == (1, 0, 1, 1)


def test_a_selection_is_estimated_on_its_samples(values):
    estimate = Measure.mean(values).over(np.array([3, 4, 5, 6])).estimate(np.arange(4))

    assert estimate.value == pytest.approx(values[3:7].mean())
    assert estimate.n == 4
    assert estimate.low >= values[3:7].min()


def test_samples_of_one_recording_are_drawn_together(values):
    copies, recording = np.repeat(values, 5), np.repeat(ALL, 5)

    together, apart = (
        Measure.mean(copies).estimate(recording),
        Measure.mean(copies).estimate(np.arange(5 * N)),
    )

    assert together.n == 5 * N
    assert together.error == pytest.approx(values.std(ddof=1) / np.sqrt(N), rel=0.06)
    assert apart.error == pytest.approx(together.error / np.sqrt(5), rel=0.1)


def test_of_no_sample_the_estimate_is_zero(values):
    estimate = Measure.mean(values[:0]).estimate(ALL[:0])

    assert (estimate.value, estimate.n, estimate.error) == (0, 0, 0)


def test_a_sample_without_a_value_does_not_count(values):
    half = np.where(ALL % 2, values, np.nan)

    estimate = Measure.mean(half).estimate(ALL)

    assert (estimate.value, estimate.n) == (pytest.approx(values[1::2].mean()), N // 2)
    assert estimate.error == pytest.approx(values[1::2].std(ddof=1) / np.sqrt(N / 2), rel=0.1)
    assert Measure.mean(half).of(ALL[::2]) == 0


def test_an_estimate_is_the_same_whenever_it_is_made(values):
    assert Measure.mean(values).estimate(ALL) == Measure.mean(values).estimate(ALL)


def test_what_is_no_mean_is_computed_on_fewer_resamples(values):
    calls = []
    median = Measure(of=lambda index_S: calls.append(1) or float(np.median(values[index_S])))

    estimate = median.estimate(ALL)

    assert len(calls) == NUM_SLOW_RESAMPLES + 1 < NUM_RESAMPLES
    assert estimate.value == np.median(values)
    assert estimate.error == pytest.approx(1.2533 * values.std() / np.sqrt(N), rel=0.4)


def test_equal_measures_differ_by_zero_without_error(values):
    mean, same = Measure.mean(values), Measure.mean(values.copy())

    found = difference(mean, same, ALL)

    assert (found.value, found.error, found.low, found.high) == (0, 0, 0, 0)


def test_a_paired_difference_is_more_certain_than_its_parts(values):
    better = Measure.mean(values + 0.1 + np.random.default_rng(2).normal(0, 0.1, N))

    found = difference(better, Measure.mean(values), ALL)

    assert found.value == pytest.approx(0.1, abs=0.02)
    assert found.error < better.estimate(ALL).error / 10
    assert found.low > 0


def test_a_difference_of_what_is_no_mean_is_paired_too(values):
    median = Measure(of=lambda index_S: float(np.median(values[index_S])))

    found = difference(median, median, ALL)

    assert (found.value, found.error) == (0, 0)


def test_samples_that_are_nan_are_in_no_mean_and_not_counted():
    measure = Measure.mean(np.array([1.0, np.nan, 0.0, np.nan]))

    estimate = measure.estimate(np.arange(4))

    assert (estimate.value, estimate.n) == (0.5, 2)
    assert measure.of(np.array([1, 3])) == 0


def test_a_measure_over_a_selection_numbers_its_samples_anew():
    measure = Measure.mean(np.array([1.0, 0.0, 0.0, 1.0])).over(np.array([0, 3]))

    assert measure.estimate(np.arange(2)).value == 1


def test_questions_about_one_recording_are_drawn_together():
    """Six questions that stand or fall together say as much as one."""
    values = np.random.default_rng(3).random(300) < 0.4
    one, six = Measure.mean(values), Measure.mean(np.repeat(values, 6))

    together = six.estimate(np.repeat(np.arange(300), 6))

    assert together.error == pytest.approx(one.estimate(np.arange(300)).error, rel=1e-6)
