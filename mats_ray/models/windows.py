"""Where windows lie over audio: one rule for the rows of a job, the lines of an answer and CLAP's mean.

Standard library only: what merely decodes imports it, too.
"""

from dataclasses import dataclass

MIN_REST_SECONDS = 0.01
"""A rest shorter than this belongs to the window before it: nobody wants a row about 3 ms."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of ``size`` samples, one every ``hop`` samples; the last one reaches to the end.

    Attributes:
        size: At least 1.
        hop: At least 1, at most the size.
        rest: Samples more than the size that make no window of their own.
    """

    size: int
    hop: int
    rest: int

    @classmethod
    def of(cls, size: int, sample_rate: int, *, hop: int | None = None) -> "Windows":
        """Windows over audio of a sample rate, without overlap unless a hop is given."""
        return cls(size, hop or size, round(MIN_REST_SECONDS * sample_rate))

    def count(self, num_samples: int) -> int:
        """Number of windows over so many samples; at least 1."""
        return 1 + max(0, -(-(num_samples - self.size - self.rest) // self.hop))

    def bounds(self, num_samples: int) -> list[tuple[int, int]]:
        """First sample of each window, and the one behind its last."""
        starts = range(0, self.count(num_samples) * self.hop, self.hop)
        return [*((start, start + self.size) for start in starts[:-1]), (starts[-1], num_samples)]
