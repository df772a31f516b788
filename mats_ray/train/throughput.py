"""Mean loss and rates since the last log line: arithmetic on durations, no clocks here."""

from dataclasses import dataclass

from mats_ray.train.engine import StepResult


@dataclass(slots=True)
class Window:
    """Sums since the last log line."""

    seconds: float = 0.0
    waiting_seconds: float = 0.0
    samples: int = 0
    text_tokens: int = 0
    loss_sum: float = 0.0
    answer_tokens: int = 0

    def count(self, result: StepResult, samples: int, *, seconds: float, waited: float) -> None:
        """Add one update: its sums, its duration, and how much of that went by waiting for data."""
        self.seconds += seconds
        self.waiting_seconds += waited
        self.samples += samples
        self.text_tokens += result.num_text_tokens
        self.loss_sum += result.loss_sum
        self.answer_tokens += result.num_answer_tokens

    def rates(self) -> dict[str, float]:
        """Return the loss per answer token, samples/s, non-padding text tokens/s, share of time waiting."""
        seconds = max(self.seconds, 1e-9)
        return {
            "loss": self.loss_sum / max(1, self.answer_tokens),
            "samples_per_s": self.samples / seconds,
            "tokens_per_s": self.text_tokens / seconds,
            "data_wait_share": self.waiting_seconds / seconds,
        }
