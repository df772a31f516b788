"""Rates of a run: arithmetic on durations, no clocks here."""

from dataclasses import dataclass


@dataclass(slots=True)
class Window:
    """Sums since the last log line."""

    seconds: float = 0.0
    waiting_seconds: float = 0.0
    samples: int = 0
    tokens: int = 0
    loss_sum: float = 0.0
    loss_tokens: int = 0

    def rates(self) -> dict[str, float]:
        """Return samples/s, non-padding text tokens/s and the share of time spent waiting for data."""
        seconds = max(self.seconds, 1e-9)
        return {
            "samples_per_s": self.samples / seconds,
            "tokens_per_s": self.tokens / seconds,
            "data_wait_share": self.waiting_seconds / seconds,
        }
