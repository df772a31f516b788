"""Mean loss and rates since the last log line: arithmetic on durations, no clocks here."""

import resource
import sys
from dataclasses import dataclass

import torch

from mats_ray.models.flops import TrainingFlops
from mats_ray.train.engine import StepResult

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Of ``ru_maxrss``, in bytes."""


@dataclass(frozen=True, slots=True)
class Meter:
    """What a run could do at best."""

    flops: TrainingFlops
    peak: float
    """Operations per second of all workers together."""


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

    def rates(self, meter: Meter | None = None) -> dict[str, float]:
        """Return loss per answer token, samples/s, non-padding text tokens/s, share of waiting, memory.

        With a meter also ``mfu``, the share of its peak that useful operations (``models/flops.py``) take.
        """
        seconds = max(self.seconds, 1e-9)
        rates = {
            "loss": self.loss_sum / max(1, self.answer_tokens),
            "samples_per_s": self.samples / seconds,
            "tokens_per_s": self.text_tokens / seconds,
            "data_wait_share": self.waiting_seconds / seconds,
            "peak_memory_gb": peak_memory_gb(),
        }
        if meter is not None:
            done = meter.flops.count(
                samples=self.samples, text_tokens=self.text_tokens, answer_tokens=self.answer_tokens
            )
            rates["mfu"] = done / seconds / meter.peak
        return rates


def peak_memory_gb() -> float:
    """Return the most memory this process has held, 10^9 bytes: of its GPU, or else its resident set."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT / 1e9
