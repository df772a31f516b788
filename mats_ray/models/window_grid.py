"""Positions of windows over audio: one rule for the rows of a job, the lines of an answer and CLAP's mean.

Standard library only: processes that only decode audio import it, too.
"""

from dataclasses import dataclass

MIN_REST_SECONDS = 0.01
"""Seconds; a rest up to this length is no window of its own, it belongs to the window before it."""


@dataclass(frozen=True, slots=True)
class WindowGrid:
    """Windows of ``size`` samples, one every ``hop`` samples; the last one reaches to the end.

    Attributes:
        size: Samples per window, at least 1.
        hop: Samples from the start of one window to the next, at least 1, at most ``size``.
        rest: Largest number of samples after the last full window that make no window of their own.
    """

    size: int
    hop: int
    rest: int

    @classmethod
    def of(cls, size: int, sample_rate: int, *, hop: int | None = None) -> "WindowGrid":
        """Build the grid for a sample rate in Hz; without overlap unless ``hop`` is given."""
        return cls(size, hop or size, round(MIN_REST_SECONDS * sample_rate))

    def count(self, num_samples: int) -> int:
        """Return the number of windows over ``num_samples`` samples; at least 1."""
        return 1 + max(0, -(-(num_samples - self.size - self.rest) // self.hop))

    def bounds(self, num_samples: int) -> list[tuple[int, int]]:
        """Return the first sample of each window, and the one after its last."""
        starts = range(0, self.count(num_samples) * self.hop, self.hop)
        return [*((start, start + self.size) for start in starts[:-1]), (starts[-1], num_samples)]
