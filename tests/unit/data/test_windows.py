"""Windows lie where they should, however the audio comes in blocks."""

import itertools

import numpy as np
import pytest

from mats_ray.caption.decode import _windows
from mats_ray.data.audio import open_audio
from mats_ray.data.windows import Cut, cut_blocks
from mats_ray.models.clap.frontend import cut_windows as cut_by_clap
from mats_ray.serving.windows import cut_windows as cut_by_service
from mats_ray.types import AudioClip
from tests.sounds import sndfile_bytes

RATE = 100


def cut(samples_T, block, seconds, hop=None):
    blocks = [samples_T[start : start + block] for start in range(0, len(samples_T), block)]
    return list(cut_blocks(blocks, RATE, Cut(seconds=seconds, hop=hop or seconds)))


@pytest.mark.parametrize("block", [1, 7, 100, 250, 10_000])
@pytest.mark.parametrize(("seconds", "hop"), [(1, 1), (1, 0.25), (2.5, 1.5), (30, 10)])
@pytest.mark.parametrize("length", [1, 99, 100, 101, 102, 103, 1000, 1033])
def test_windows_are_those_of_the_whole(block, seconds, hop, length):
    samples = np.arange(length, dtype=np.float32)
    windows = cut(samples, block, seconds, hop)

    for n, window in enumerate(windows):
        start, end = round(n * hop * RATE), round(window.end_s * RATE)
        assert window.start_s == start / RATE
        np.testing.assert_array_equal(window.samples, samples[start:end])
        assert window.is_last == (n == len(windows) - 1)
        assert window.is_last or end - start == seconds * RATE
    assert end == length  # every sample is in a window
    assert end - start <= seconds * RATE + 1


def test_a_rest_too_short_to_mean_anything_belongs_to_the_window_before():
    assert [window.end_s for window in cut(np.zeros(201, np.float32), 50, 1)] == [1, 2.01]
    assert [window.end_s for window in cut(np.zeros(202, np.float32), 50, 1)] == [1, 2, 2.02]


def test_what_was_whole_comes_before_the_error():
    def blocks():
        yield np.zeros(250, np.float32)
        raise OSError

    windows = cut_blocks(blocks(), RATE, Cut(seconds=1, hop=1))
    assert [window.is_last for window in itertools.islice(windows, 2)] == [False, False]
    with pytest.raises(OSError):  # noqa: PT011
        next(windows)


def test_ten_hours_are_never_held():
    second = np.zeros(8_000, np.float32)
    blocks = itertools.repeat(second, 36_000)
    held, count, window = 0, 0, None
    for count, window in enumerate(  # noqa: B007
        cut_blocks(blocks, 8_000, Cut(seconds=10, hop=10)), start=1
    ):
        held = max(held, window.samples.base.nbytes if window.samples.base is not None else 0)
    assert (count, window.end_s) == (3600, 36_000)
    assert held < 12 * second.nbytes


@pytest.mark.parametrize("seconds", [0.5, 10.0, 10.001, 10.0101, 19.9, 20.009, 20.02, 45.0])
@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_a_job_a_request_and_clap_cut_alike(seconds, rate, tmp_path):
    samples = np.linspace(-0.5, 0.5, round(seconds * rate), dtype=np.float32)
    (path := tmp_path / "a.wav").write_bytes(sndfile_bytes(samples, rate, format="WAV", subtype="FLOAT"))

    with open_audio(path) as audio:
        job = [(row["start_s"], row["end_s"]) for row in _windows(audio, Cut(seconds=10, hop=10))]
    clip = AudioClip(samples=samples, sample_rate=rate)
    request = cut_by_service(clip, 10.0, max_windows=5)
    clap = cut_by_clap(samples, 10 * rate, rate, "windows")

    assert [(window.start_seconds, window.end_seconds) for window in request] == job
    assert [min(round((end - start) * rate), 10 * rate) for start, end in job] == [
        len(piece) for piece in clap
    ]
    assert job[-1][1] == clip.seconds
    assert len(job) == max(1, -(-(seconds - 0.01) // 10))


def test_what_lasts_a_millisecond_more_is_one_window_everywhere():
    clip = AudioClip(samples=np.zeros(160_016, np.float32), sample_rate=16_000)

    [window] = cut_by_service(clip, 10.0, max_windows=1)
    assert (window.start_seconds, window.end_seconds, len(window.clip.samples)) == (0, 10.001, 160_016)
    [piece] = cut_by_clap(clip.samples, 160_000, 16_000, "windows")
    assert len(piece) == 160_000  # the longest input of CLAP
