"""Metrics of a run: records, generated samples, mean loss and rates since the last record, MFU and memory."""

import math
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mats_ray.config import RunConfig
from mats_ray.models.mats import MATS
from mats_ray.train.engine import StepResult
from mats_ray.train.flops import TrainingFlops, llm_shape

if TYPE_CHECKING:
    from mats_ray.train.tracking import Record

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Unit of ``ru_maxrss`` in bytes."""
_PEAK_SECONDS = 0.5


@dataclass(slots=True)
class MFUMeter:
    """Model FLOPs utilisation: the share of the measured peak that useful operations take."""

    flops: TrainingFlops
    peak: float
    """Operations per second of all workers together."""
    measure: Callable[[], float] | None = None
    """Measures ``peak``."""

    def mfu(self, *, samples: int, text_tokens: int, answer_tokens: int, seconds: float) -> float:
        """Return the utilisation of an interval.

        A peak that is exceeded was measured while other processes had this processor, those that start the
        data pipeline say: it is measured again, and the larger one counts from now on.
        """
        done = self.flops.count(samples=samples, text_tokens=text_tokens, answer_tokens=answer_tokens)
        if done / seconds > self.peak and self.measure is not None:
            self.peak = max(self.peak, self.measure())
        return done / seconds / self.peak


def mfu_meter(config: RunConfig, model: MATS, *, device: str, num_workers: int) -> MFUMeter:
    """Measure the peak of the hardware in the precision of the run."""
    dtype = torch.bfloat16 if config.train.engine.precision == "bf16" else torch.float32
    shape = llm_shape(model.llm.config)
    flops = TrainingFlops(shape, config.model.mapper, config.model.clap.dim, config.model.llm.adapters)

    def measure() -> float:
        return measured_peak(device, dtype=dtype) * num_workers

    return MFUMeter(flops, measure(), measure)


@dataclass(slots=True)
class IntervalTotals:
    """Sums over the updates since the last record; durations are measured by the caller."""

    seconds: float = 0.0
    waiting_seconds: float = 0.0
    samples: int = 0
    text_tokens: int = 0
    loss_sum: float = 0.0
    answer_tokens: int = 0

    def add(self, result: StepResult, samples: int, *, seconds: float, waited: float) -> None:
        """Add one update: its sums, its duration, and the part of it spent waiting for data."""
        self.seconds += seconds
        self.waiting_seconds += waited
        self.samples += samples
        self.text_tokens += result.num_text_tokens
        self.loss_sum += result.loss_sum
        self.answer_tokens += result.num_answer_tokens

    def rates(self, meter: MFUMeter | None = None) -> "Record":
        """Return loss per answer token, samples/s, non-padding text tokens/s, share of waiting, memory.

        With a meter also ``mfu``.
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
            rates["mfu"] = meter.mfu(
                samples=self.samples,
                text_tokens=self.text_tokens,
                answer_tokens=self.answer_tokens,
                seconds=seconds,
            )
        return rates


def peak_memory_gb() -> float:
    """Return the peak memory of this process, 10^9 bytes: of its GPU, or else its resident set."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT / 1e9


def measured_peak(device: str, *, dtype: torch.dtype, size: int = 768) -> float:
    """Return the operations per second of the fastest of some matrix products: the peak MFU refers to.

    Nominal figures are not reached by anything, and a CPU has none. Products of half a second: a few could
    all fall into the time of another process. Of random numbers: a GPU draws less power for constant ones,
    and is faster with them than with any model's.
    """
    size = 8192 if device.startswith("cuda") else size
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    fastest, until = math.inf, time.perf_counter() + _PEAK_SECONDS
    while time.perf_counter() < until:
        fastest = min(fastest, timed(lambda: torch.mm(a, b), device))
    return 2 * size**3 / fastest


def timed(work: Callable[[], object], device: str) -> float:
    """Return the seconds of a piece of work on an idle device, until the device is done with it."""
    is_cuda = device.startswith("cuda")
    if is_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
