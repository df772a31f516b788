"""Resampling as the reference packages do it: LAION through soxr (HQ), MS-CLAP through torchaudio's sinc.

The sinc resampler is torchaudio's default (Hann window, 6 zero crossings, roll-off 0.99), evaluated tap by
tap: for an odd rate such as 44,099 Hz the dense kernel torchaudio builds would take gigabytes.
"""

import math
from typing import Literal

import numpy as np
import soxr

Resampler = Literal["soxr", "sinc"]

_ZERO_CROSSINGS = 6
_ROLLOFF = 0.99
_BLOCK_SAMPLES = 1 << 18


def resample(samples: np.ndarray, from_rate: int, to_rate: int, method: Resampler = "soxr") -> np.ndarray:
    """Resample a mono clip: (T,) float32 -> (T',) float32.

    Args:
        samples: (T,) float32.
        from_rate: Its rate in Hz.
        to_rate: Rate of the result in Hz.
        method: "soxr" or "sinc".
    """
    if from_rate == to_rate:
        return samples
    if method == "soxr":
        return soxr.resample(samples, from_rate, to_rate, quality="HQ")
    return _resample_sinc(samples, from_rate, to_rate)


def _resample_sinc(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    divisor = math.gcd(from_rate, to_rate)
    old, new = from_rate // divisor, to_rate // divisor
    taps, first = _sinc_taps(old, new)
    num_out = -(-len(samples) * new // old)
    reach = taps.shape[1]
    padded = np.pad(samples, (reach, reach))
    blocks = []
    # Output sample q * new + p reads input samples from q * old + first[p] on. In blocks, because the gather
    # needs `reach` times the memory of its output.
    for start in range(0, num_out, _BLOCK_SAMPLES):
        frame, phase = np.divmod(np.arange(start, min(start + _BLOCK_SAMPLES, num_out)), new)
        begin = frame * old + first[phase] + reach
        gathered = padded[begin[:, None] + np.arange(reach)]
        blocks.append(np.einsum("ij,ij->i", gathered, taps[phase]))
    return np.concatenate(blocks)


def _sinc_taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Filter taps per phase (new, reach) float32 and the input offset of each phase's first tap (new,)."""
    base = _ROLLOFF * min(old, new)
    half = math.ceil(_ZERO_CROSSINGS * old / base)
    phase = np.arange(new)
    first = phase * old // new - half
    offset = first[:, None] + np.arange(2 * half + 2)
    t = np.clip(base * (offset / old - phase[:, None] / new), -_ZERO_CROSSINGS, _ZERO_CROSSINGS)
    window = np.cos(np.pi * t / (2 * _ZERO_CROSSINGS)) ** 2
    return (np.sinc(t) * window * base / old).astype(np.float32), first
