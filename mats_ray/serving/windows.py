"""Long sounds in fixed windows: never cropped, never by chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mats_ray.serving.problems import RequestError
from mats_ray.types import Answer, AudioClip


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A part of a sound."""

    clip: AudioClip
    start_seconds: float
    end_seconds: float

    @property
    def times(self) -> str:
        """As it stands before its answer."""
        return f"[{self.start_seconds:.1f}-{self.end_seconds:.1f} s]"


def cut_windows(clip: AudioClip, seconds: float | None, *, max_windows: int) -> list[Window]:
    """Cut a sound into windows of equal length; the last may be shorter. None: one window, the whole.

    Raises:
        RequestError: There would be too many.
    """
    if seconds is None:
        return [Window(clip=clip, start_seconds=0.0, end_seconds=clip.seconds)]
    size = max(1, round(seconds * clip.sample_rate))
    count = math.ceil(len(clip.samples) / size)
    if count > max_windows:
        raise RequestError(
            f"window={seconds:g} cuts {clip.seconds:.0f} s into {count} windows, at most {max_windows} "
            f"are allowed: use {math.ceil(clip.seconds / max_windows)} s or more",
            code="invalid_field",
            param="window",
        )
    return [_window(clip, start, size) for start in range(0, len(clip.samples), size)]


def join_answers(answers: Sequence[tuple[Window, Answer]]) -> Answer:
    """One line per window, its times before its answer."""
    lines = [f"{window.times} {answer.text}" for window, answer in answers]
    cut = any(answer.finish_reason == "length" for _, answer in answers)
    return Answer(
        text="\n".join(lines),
        num_tokens=sum(answer.num_tokens for _, answer in answers),
        finish_reason="length" if cut else "stop",
    )


def _window(clip: AudioClip, start: int, size: int) -> Window:
    samples = clip.samples[start : start + size]
    return Window(
        clip=AudioClip(samples=samples, sample_rate=clip.sample_rate, name=clip.name),
        start_seconds=start / clip.sample_rate,
        end_seconds=(start + len(samples)) / clip.sample_rate,
    )
