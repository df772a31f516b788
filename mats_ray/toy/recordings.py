"""Recordings of single sounds, rendered once, and training clips mixed from them; no clip occurs twice.

Powers of unrelated sounds add up, so scenes are mixed as mel power, far faster than as audio that is then
transformed. Only training goes this way; whatever is tested is mixed as audio and comes in by the usual
front end.

Shapes: S sounds, N recordings of each, F frames, M mel bands, B batch.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from mats_ray.config.toy import ToyConfig
from mats_ray.models.clap.frontend import LogMel
from mats_ray.progress import Progress
from mats_ray.toy.scenes import NOISE_LEVEL, SceneClip, blend_gain, draw_border, draw_peak
from mats_ray.toy.sounds import SOUNDS

T = TypeVar("T")
_POWER_FLOOR = 1e-10
_INDEX = {name: index for index, name in enumerate(SOUNDS)}


@dataclass(frozen=True)
class Recordings:
    """Renderings of every sound at full level, as mel power."""

    power_SNFM: Tensor
    peak_SN: np.ndarray
    """Largest sample of each recording."""
    gain_SN: np.ndarray
    """Gain of each recording when another sound is there at the same time."""
    background_M: Tensor
    """Mean mel power of the background noise."""

    @classmethod
    def render(cls, front_end: LogMel, config: ToyConfig, *, seed: int) -> Self:
        """Render ``config.clap_takes`` recordings of each sound."""
        shape, num_samples = (len(SOUNDS), config.clap_takes), config.clip_seconds * config.sample_rate

        def power_of(samples: np.ndarray) -> Tensor:
            return 10 ** (front_end(torch.from_numpy(samples)[None])[0] / 10)

        def record(index: int) -> tuple[Tensor, float, float]:
            rng = np.random.default_rng((seed, index))
            sound = list(SOUNDS.values())[index // config.clap_takes]
            samples = sound.render(rng, num_samples, config.sample_rate)
            return power_of(samples), float(np.abs(samples).max()), blend_gain(samples)

        powers, peaks, gains = zip(*_in_threads(record, shape[0] * shape[1]), strict=True)
        noise = np.random.default_rng(seed).standard_normal(num_samples, dtype=np.float32)
        return cls(
            torch.stack(powers).unflatten(0, shape),
            np.reshape(peaks, shape),
            np.reshape(gains, shape),
            power_of(NOISE_LEVEL * noise).mean(dim=0),
        )

    def log_mels(self, clips: Sequence[SceneClip]) -> Tensor:
        """Put clips together, each from its own seed: (B, F, M) in dB."""
        return torch.stack([self._log_mel(clip) for clip in clips])

    def _log_mel(self, clip: SceneClip) -> Tensor:
        rng = clip.rng()
        num_recordings = self.power_SNFM.shape[1]
        chosen = [(_INDEX[name], int(rng.integers(num_recordings))) for name in clip.scene.sounds]
        one_after_the_other = clip.scene.kind == "then"
        mixed_FM, peak = self._concatenated(chosen, rng) if one_after_the_other else self._mixed(chosen)
        level = (draw_peak(rng) / peak) ** 2
        return 10 * ((mixed_FM + self.background_M) * level).clamp(min=_POWER_FLOOR).log10()

    def _concatenated(self, chosen: list[tuple[int, int]], rng: np.random.Generator) -> tuple[Tensor, float]:
        """First half, second half."""
        first_FM, second_FM = (self.power_SNFM[index] for index in chosen)
        end, start = (round(len(first_FM) * place) for place in draw_border(rng))
        joined_FM = torch.zeros_like(first_FM)
        joined_FM[:end] = first_FM[:end]
        joined_FM[start:] = second_FM[: len(second_FM) - start]
        return joined_FM, max(self.peak_SN[index] for index in chosen)

    def _mixed(self, chosen: list[tuple[int, int]]) -> tuple[Tensor, float]:
        """All at once; peaks add up like the powers do, they rarely meet."""
        gains = [float(self.gain_SN[index]) for index in chosen]
        powers = [self.power_SNFM[index] * gain**2 for index, gain in zip(chosen, gains, strict=True)]
        peaks = [self.peak_SN[index] * gain for index, gain in zip(chosen, gains, strict=True)]
        return torch.stack(powers).sum(dim=0), float(np.linalg.norm(peaks))


def _in_threads(work: Callable[[int], T], count: int) -> Iterator[T]:
    """Call the function in threads; NumPy and torch release the interpreter lock while they work."""
    with Progress("toy sounds", total=count, unit="take") as progress, ThreadPoolExecutor() as threads:
        for result in threads.map(work, range(count)):
            progress.advance()
            yield result
