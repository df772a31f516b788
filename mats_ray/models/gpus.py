"""Accelerators as their makers describe them: memory, dense bf16 operations per second, a price."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GPU:
    """One card."""

    memory_gb: float
    """10^9 bytes."""
    bf16_flops: float
    """Per second, dense, as printed by the maker: nothing reaches it."""
    dollars_per_hour: float
    """Rented on demand, rounded, 2025: a default to be overridden."""


GPUS = {
    "a10g": GPU(24e0, 125e12, 1.0),
    "l4": GPU(24e0, 121e12, 0.8),
    "l40s": GPU(48e0, 362e12, 1.9),
    "a100-40": GPU(40e0, 312e12, 3.0),
    "a100-80": GPU(80e0, 312e12, 4.0),
    "h100-80": GPU(80e0, 989e12, 7.0),
    "h200-141": GPU(141e0, 989e12, 8.0),
    "b200-192": GPU(192e0, 2250e12, 12.0),
}
