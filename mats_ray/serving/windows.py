"""Long sounds in fixed windows: never cropped, never by chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mats_ray.data.windows import Cut, cut_blocks
from mats_ray.data.windows import Window as CutWindow
from mats_ray.models.windows import Windows
from mats_ray.serving.errors import RequestError
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
    """Cut a sound as a job does: windows of equal length, the last to its end. None: one window, the whole.

    Raises:
        RequestError: There would be too many.
    """
    if seconds is None:
        return [Window(clip=clip, start_seconds=0.0, end_seconds=clip.seconds)]
    size = max(1, round(seconds * clip.sample_rate))
    count = Windows.of(size, clip.sample_rate).count(len(clip.samples))
    if count > max_windows:
        raise RequestError(
            f"window={seconds:g} cuts {clip.seconds:.0f} s into {count} windows, at most {max_windows} "
            f"are allowed: use {math.ceil(clip.seconds / max_windows)} s or more",
            code="invalid_field",
            param="window",
        )
    windows = cut_blocks([clip.samples], clip.sample_rate, Cut(seconds=seconds, hop=seconds))
    return [_window(clip, window) for window in windows]


def join_answers(answers: Sequence[tuple[Window, Answer]]) -> Answer:
    """One line per window, its times before its answer."""
    lines = [f"{window.times} {answer.text}" for window, answer in answers]
    cut = any(answer.finish_reason == "length" for _, answer in answers)
    return Answer(
        text="\n".join(lines),
        num_tokens=sum(answer.num_tokens for _, answer in answers),
        finish_reason="length" if cut else "stop",
    )


def _window(clip: AudioClip, part: CutWindow) -> Window:
    return Window(
        clip=AudioClip(samples=part.samples, sample_rate=clip.sample_rate, name=clip.name),
        start_seconds=part.start_s,
        end_seconds=part.end_s,
    )
