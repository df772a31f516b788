import numpy as np
import pytest

from mats_ray.serving.errors import RequestError
from mats_ray.serving.windows import cut_windows, join_answers
from mats_ray.types import Answer, AudioClip

CLIP = AudioClip(samples=np.arange(25, dtype=np.float32), sample_rate=10, name="a")


def test_windows_cover_every_sample_once():
    windows = cut_windows(CLIP, 1.0, max_windows=3)

    assert np.concatenate([window.clip.samples for window in windows]).tolist() == list(range(25))
    assert [(w.start_seconds, w.end_seconds) for w in windows] == [(0, 1), (1, 2), (2, 2.5)]


def test_without_windows_the_whole_is_one():
    [window] = cut_windows(CLIP, None, max_windows=1)

    assert (window.clip, window.end_seconds) == (CLIP, 2.5)


def test_too_many_windows_are_refused_with_a_length_that_would_do():
    with pytest.raises(RequestError, match="use 2 s or more") as caught:
        cut_windows(CLIP, 1.0, max_windows=2)

    assert caught.value.param == "window"


def test_one_answer_that_was_cut_marks_the_whole():
    windows = cut_windows(CLIP, 1.0, max_windows=3)
    answers = [Answer(text=t, num_tokens=2, finish_reason=r) for t, r in (("a", "stop"), ("b", "length"))]

    joined = join_answers(list(zip(windows, answers, strict=False)))

    assert joined == Answer(text="[0.0-1.0 s] a\n[1.0-2.0 s] b", num_tokens=4, finish_reason="length")
