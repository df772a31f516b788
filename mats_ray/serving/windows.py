"""Long clips in windows of equal length: cut before they are answered, joined after."""

import math
from collections.abc import Sequence

from mats_ray.data.windows import Cut, cut_blocks
from mats_ray.models.window_grid import WindowGrid
from mats_ray.serving.errors import RequestError
from mats_ray.serving.types import ClipWindow
from mats_ray.types import Answer, AudioClip


def cut_windows(clip: AudioClip, seconds: float | None, *, max_windows: int) -> list[ClipWindow]:
    """Cut a clip as the caption job does: windows of equal length, the last to its end.

    Args:
        clip: The whole.
        seconds: Length of a window; None: one window, the whole clip.
        max_windows: More are refused.

    Raises:
        RequestError: There would be too many.
    """
    if seconds is None:
        return [ClipWindow(clip=clip, start_seconds=0.0, end_seconds=clip.seconds)]
    size = max(1, round(seconds * clip.sample_rate))
    count = WindowGrid.of(size, clip.sample_rate).count(len(clip.samples))
    if count > max_windows:
        raise RequestError(
            f"window={seconds:g} cuts {clip.seconds:.0f} s into {count} windows, at most {max_windows} "
            f"are allowed: use {math.ceil(clip.seconds / max_windows)} s or more",
            code="invalid_field",
            param="window",
        )
    return [
        ClipWindow(
            clip=AudioClip(samples=window.samples, sample_rate=clip.sample_rate, name=clip.name),
            start_seconds=window.start_s,
            end_seconds=window.end_s,
        )
        for window in cut_blocks([clip.samples], clip.sample_rate, Cut(seconds=seconds, hop=seconds))
    ]


def join_answers(answers: Sequence[tuple[ClipWindow, Answer]]) -> Answer:
    """Join the answers about windows: one line each, its times before its text."""
    lines = [f"{window.times} {answer.text}" for window, answer in answers]
    is_cut = any(answer.finish_reason == "length" for _, answer in answers)
    return Answer(
        text="\n".join(lines),
        num_tokens=sum(answer.num_tokens for _, answer in answers),
        finish_reason="length" if is_cut else "stop",
    )
