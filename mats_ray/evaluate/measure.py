"""Measures over samples, and how certain they are.

Shapes: N samples, R resamples, S samples of a selection.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 1_000
NUM_SLOW_RESAMPLES = 100
"""Of a measure that is no mean: each of its resamples is computed anew."""
_SEED = 0
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its standard error and 95 % interval, both by bootstrap over samples."""

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

    def estimate(self, index_S: np.ndarray) -> Estimate:
        """Compute the number over some samples, and how much it would vary among others like them."""
        resampled_R = self.resampled(index_S)
        low, high = np.percentile(resampled_R, _INTERVAL) if len(resampled_R) else (0.0, 0.0)
        return Estimate(
            value=self.of(index_S),
            n=len(index_S),
            error=float(resampled_R.std(ddof=1)) if len(resampled_R) > 1 else 0.0,
            low=float(low),
            high=float(high),
        )

    def resampled(self, index_S: np.ndarray) -> np.ndarray:
        """Compute the number over resamples, (R,); the same draws for every measure of as many samples."""
        if not len(index_S):
            return np.zeros(0)
        generator = np.random.default_rng(_SEED)
        count = NUM_SLOW_RESAMPLES if self.values_N is None else NUM_RESAMPLES
        draws = (generator.integers(len(index_S), size=len(index_S)) for _ in range(count))
        return np.array([self.of(index_S[draw_S]) for draw_S in draws])


def difference(first: Measure, second: Measure, index_S: np.ndarray) -> Estimate:
    """Compare two measures of the same samples, first minus second, by paired bootstrap."""
    paired = Measure(
        of=lambda index: first.of(index) - second.of(index),
        values_N=None if first.values_N is None or second.values_N is None else first.values_N,
    )
    return paired.estimate(index_S)
