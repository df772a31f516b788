"""Measures over samples, and how certain they are.

Samples about the same recording are not independent, so resamples draw recordings, each with all its samples
(cluster bootstrap). Shapes: N samples, C recordings, S samples of a selection, R resamples.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 1_000
NUM_SLOW_RESAMPLES = 100
"""Of a measure that is no mean: each of its resamples is computed anew."""
_SEED = 0
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its standard error and 95 % interval, both by bootstrap."""

    value: float
    n: int
    """Number of samples."""
    error: float
    low: float
    high: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Measure:
    """A number over samples, for any selection of them.

    Attributes:
        of: Indices of samples (S,), with repetitions, to the number.
        values_N: Value of each sample where the number is their mean; None: it is no mean.
        chance: Value of answers that know nothing; None: not known.
    """

    of: Callable[[np.ndarray], float]
    values_N: np.ndarray | None = None
    chance: float | None = None

    @classmethod
    def mean(cls, values_N: np.ndarray, *, chance: float | None = None) -> "Measure":
        """The mean over values of single samples; 0 over none."""
        values_N = np.asarray(values_N, dtype=np.float64)
        return cls(
            of=lambda index_S: float(values_N[index_S].mean()) if len(index_S) else 0.0,
            values_N=values_N,
            chance=chance,
        )

    def over(self, index_S: np.ndarray) -> "Measure":
        """Return the same number over a selection of the samples alone; its chance is not known."""
        values_N = self.values_N
        return Measure(
            of=lambda index: self.of(index_S[index]), values_N=None if values_N is None else values_N[index_S]
        )

    def estimate(self, recording_N: np.ndarray) -> Estimate:
        """Compute the number over all samples, and how much it would vary among other recordings.

        Args:
            recording_N: Number of each sample's recording: those of one are drawn together.
        """
        everything = np.arange(len(recording_N))
        count = NUM_SLOW_RESAMPLES if self.values_N is None else NUM_RESAMPLES
        resampled_R = np.array([self.of(index_S) for index_S in _resamples(recording_N, count)])
        low, high = np.percentile(resampled_R, _INTERVAL) if len(resampled_R) else (0.0, 0.0)
        return Estimate(
            value=self.of(everything),
            n=len(everything),
            error=float(resampled_R.std(ddof=1)) if len(resampled_R) > 1 else 0.0,
            low=float(low),
            high=float(high),
        )


def difference(first: Measure, second: Measure, recording_N: np.ndarray) -> Estimate:
    """Compare two measures of the same samples, first minus second, by paired bootstrap."""
    both_are_means = first.values_N is not None and second.values_N is not None
    paired = Measure(
        of=lambda index_S: first.of(index_S) - second.of(index_S),
        values_N=first.values_N if both_are_means else None,
    )
    return paired.estimate(recording_N)


def _resamples(recording_N: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Yield the samples of as many drawn recordings as there are; the same draws on every call."""
    if not len(recording_N):
        return
    generator = np.random.default_rng(_SEED)
    order_N = np.argsort(recording_N, kind="stable")
    _, first_C, size_C = np.unique(recording_N[order_N], return_index=True, return_counts=True)
    for _ in range(count):
        draw_C = generator.integers(len(first_C), size=len(first_C))
        sizes = size_C[draw_C]
        # place of each sample inside its recording, then in the sorted order
        inside = np.arange(sizes.sum()) - np.repeat(sizes.cumsum() - sizes, sizes)
        yield order_N[np.repeat(first_C[draw_C], sizes) + inside]
