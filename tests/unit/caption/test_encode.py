"""Any length is heard, and how a file came does not matter."""

import numpy as np
import pytest

from mats_ray.caption.clips import LongFile
from mats_ray.caption.decode import Opener
from mats_ray.caption.encode import Heard, Hearing
from mats_ray.data.audio import Limits, read_audio
from mats_ray.data.windows import Cut
from mats_ray.errors import AudioError
from mats_ray.infer.pipeline import AudioEncoder
from mats_ray.models.clap import load_clap
from mats_ray.storage import Environment
from mats_ray.types import AudioClip
from tests.unit.caption.test_decode import wav
from tests.world import SAMPLE_RATE, tiny_clap


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return AudioEncoder(load_clap(tiny_clap(tmp_path_factory.mktemp("clap"))))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """90.5 s: 22 windows of CLAP's 4 s and a rest, more than are heard at a time."""
    draw = np.random.default_rng(0)
    loud = np.repeat(draw.uniform(0, 0.5, 181), SAMPLE_RATE // 2)
    made = tmp_path_factory.mktemp("clips") / "long.wav"
    made.write_bytes(wav((loud * draw.uniform(-1, 1, len(loud))).astype(np.float32), SAMPLE_RATE))
    return str(made)


def hearing(encoder, pool=None):
    return Hearing(encoder=encoder, opener=Opener(environment=Environment(), limits=Limits()), pool=pool)


def test_a_file_that_was_too_long_to_be_sent_is_heard_like_one_that_was_not(encoder, path):
    clip = read_audio(path)
    sent, opened = hearing(encoder).hear([clip, LongFile(path, 1)])

    assert sent.seconds == opened.seconds == 90.5
    np.testing.assert_array_equal(sent.embedding_C, encoder.encode([clip])[0])
    np.testing.assert_allclose(opened.embedding_C, sent.embedding_C, atol=2e-6)


def test_a_rest_that_is_no_window_has_no_weight_either_way(encoder, tmp_path):
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, round(8.009 * SAMPLE_RATE)).astype(np.float32)
    (path := tmp_path / "a.wav").write_bytes(wav(samples, SAMPLE_RATE))
    sent, opened = hearing(encoder).hear([read_audio(path), LongFile(str(path), 1)])

    assert opened.seconds == sent.seconds
    np.testing.assert_allclose(opened.embedding_C, sent.embedding_C, atol=1e-6)


@pytest.mark.parametrize(("seconds", "hop"), [(7, 7), (10, 2.5), (200, 200)])
def test_the_mean_over_windows_weighs_them_by_their_length(encoder, path, seconds, hop):
    clip = read_audio(path)
    pool = Cut(seconds=seconds, hop=hop)
    sent, opened = hearing(encoder, pool).hear([clip, LongFile(path, 1)])

    total = 0
    for start in np.arange(0, max(90.5 - (seconds - hop), hop), hop):
        piece = clip.samples[round(start * SAMPLE_RATE) : round((start + seconds) * SAMPLE_RATE)]
        total = total + len(piece) * encoder.clap.encode_audio([piece], SAMPLE_RATE)[0].numpy()
    np.testing.assert_allclose(sent.embedding_C, total / np.linalg.norm(total), atol=2e-6)
    np.testing.assert_array_equal(opened.embedding_C, sent.embedding_C)


@pytest.mark.parametrize("pool", [None, Cut(seconds=7, hop=7)])
def test_a_clip_without_a_finite_embedding_is_an_error_and_the_others_go_on(encoder, path, tmp_path, pool):
    clip = read_audio(path)
    loud = clip.samples.copy()
    loud[-SAMPLE_RATE:] = 3e29  # of a long file it is the last window
    huge = AudioClip(samples=loud, sample_rate=SAMPLE_RATE, name="huge.wav")

    good, bad, again = hearing(encoder, pool).hear([clip, huge, clip])

    assert (bad.code, str(bad).split(":")[0]) == ("not_finite", "huge.wav")
    (alone,) = hearing(encoder, pool).hear([clip])
    for one in (good, again):
        np.testing.assert_array_equal(one.embedding_C, alone.embedding_C)


def test_what_cannot_be_heard_spoils_nothing(encoder, path, tmp_path):
    bad = AudioError("bad", code="damaged")
    items = [bad, read_audio(path), LongFile(str(tmp_path / "gone.wav"), 1), read_audio(path)]
    before, good, gone, again = hearing(encoder).hear(items)

    assert before is bad
    assert gone.code == "not_found"
    assert isinstance(good, Heard)
    np.testing.assert_array_equal(good.embedding_C, again.embedding_C)
