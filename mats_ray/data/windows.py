"""Fixed windows over audio that is decoded block by block.

Windows do not depend on the blocks, and none is kept once it has been yielded.

Shapes: T samples.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mats_ray.models.window_grid import WindowGrid


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Windows to cut: ``seconds`` long windows, one every ``hop`` seconds, hop at most seconds."""

    seconds: float
    hop: float

    def __str__(self) -> str:
        """Return the name of the cut as rows hold it."""
        return f"windows of {self.seconds:g} s every {self.hop:g} s"


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A window: a part of an audio file."""

    samples: np.ndarray
    """Samples, (T,) float32."""
    start_s: float
    end_s: float
    is_last: bool

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.end_s - self.start_s


def cut_blocks(blocks: Iterable[np.ndarray], sample_rate: int, cut: Cut) -> Iterator[Window]:
    """Cut blocks (T,) into windows; the last one reaches to the end and may be shorter.

    What iterating the blocks raises comes after all windows that were whole before it.
    """
    size, hop = (max(1, round(seconds * sample_rate)) for seconds in (cut.seconds, cut.hop))
    windows = WindowGrid.of(size, sample_rate, hop=hop)
    held, num_held, start = list[np.ndarray](), 0, 0
    for block_T in blocks:
        held.append(block_T)
        num_held += len(block_T)
        if windows.count(num_held) == 1:
            continue
        joined_T = held[0] if len(held) == 1 else np.concatenate(held)
        *whole, (rest, _) = windows.bounds(num_held)
        for first, end in whole:
            yield _window(joined_T[first:end], start + first, sample_rate, is_last=False)
        held, num_held, start = [joined_T[rest:]], num_held - rest, start + rest
    if num_held:
        yield _window(np.concatenate(held), start, sample_rate, is_last=True)


def _window(samples_T: np.ndarray, start: int, sample_rate: int, *, is_last: bool) -> Window:
    end = start + len(samples_T)
    return Window(samples_T, start / sample_rate, end / sample_rate, is_last)
