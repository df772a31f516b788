"""Clips of any length have embeddings, and how their windows were batched does not matter."""

import numpy as np
import pytest

from mats_ray.caption.decode import CLIP_SCHEMA, pack, unpack
from mats_ray.caption.encode import ClipEncoder
from mats_ray.caption.pooling import WindowPool
from mats_ray.caption.rows import RowError
from mats_ray.data.windows import Cut, cut_blocks
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.models.clap import load_clap
from mats_ray.types import AudioClip
from tests.world import SAMPLE_RATE, tiny_clap


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return AudioEncoder(load_clap(tiny_clap(tmp_path_factory.mktemp("clap"))))


@pytest.fixture(scope="module")
def sound():
    """90.5 s: 22 windows of CLAP's 4 s and a rest."""
    draw = np.random.default_rng(0)
    loud = np.repeat(draw.uniform(0, 0.5, 181), SAMPLE_RATE // 2)
    return (loud * draw.uniform(-1, 1, len(loud))).astype(np.float32)


def clip_row(samples, *, path="a.wav", **columns):
    times = {"start_s": 0.0, "end_s": len(samples) / SAMPLE_RATE, "segment": 0, "is_last": True}
    prompts = [{"task": "qa", "instruction": "Dog?"}]
    base = dict.fromkeys(CLIP_SCHEMA.names) | {"path": path, "etag": "1", "prompts": prompts} | times
    return base | {"samples": samples.tobytes(), "sample_rate": SAMPLE_RATE} | columns


def window_rows(samples, cut, **columns):
    """Rows of the windows that are pooled to one embedding."""
    return [
        clip_row(
            window.samples,
            start_s=window.start_s,
            end_s=window.end_s,
            segment=n,
            is_last=window.is_last,
            pool_weight_s=min(window.seconds, cut.seconds),
            **columns,
        )
        for n, window in enumerate(cut_blocks([samples], SAMPLE_RATE, cut))
    ]


def error_row(path="bad.wav", **columns):
    return clip_row(np.zeros(0, np.float32), path=path) | {
        "samples": None,
        "start_s": None,
        "end_s": None,
        "error_code": "damaged",
        "error": "bad",
        **columns,
    }


def encode(encoder, *batches, pool=None):
    """Encode batches of rows one after the other."""
    clip_encoder = ClipEncoder(encoder=encoder, add_windows=(pool or WindowPool()).add)
    return [clip for rows in batches for batch in unpack(pack(rows)) for clip in clip_encoder.encode(batch)]


def test_clips_have_claps_own_embeddings(encoder, sound):
    samples = [sound, sound[:SAMPLE_RATE], sound[: 7 * SAMPLE_RATE]]
    clips = encode(encoder, [clip_row(one, path=f"{n}.wav") for n, one in enumerate(samples)])

    expected = encoder.encode([AudioClip(samples=one, sample_rate=SAMPLE_RATE) for one in samples])
    np.testing.assert_array_equal([clip.result for clip in clips], expected)
    assert [(clip.source.path, clip.source.end_s) for clip in clips] == [
        ("0.wav", 90.5),
        ("1.wav", 1),
        ("2.wav", 7),
    ]


@pytest.mark.parametrize("size", [1, 5, 16, 100])
def test_a_long_file_in_windows_is_encoded_like_the_whole(encoder, sound, size):
    (whole,) = encode(encoder, [clip_row(sound)])
    rows = window_rows(sound, Cut(seconds=4, hop=4))
    (pooled,) = encode(encoder, *(rows[start : start + size] for start in range(0, len(rows), size)))

    assert pooled.source == whole.source
    np.testing.assert_allclose(pooled.result, whole.result, atol=2e-6)


def test_a_rest_that_is_no_window_has_no_weight(encoder):
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, round(8.009 * SAMPLE_RATE)).astype(np.float32)
    (whole,) = encode(encoder, [clip_row(samples)])
    (pooled,) = encode(encoder, window_rows(samples, Cut(seconds=4, hop=4)))

    assert pooled.source == whole.source
    np.testing.assert_allclose(pooled.result, whole.result, atol=1e-6)


@pytest.mark.parametrize(("seconds", "hop"), [(7, 7), (10, 2.5), (200, 200)])
def test_the_mean_over_windows_weighs_them_by_their_length(encoder, sound, seconds, hop):
    (pooled,) = encode(encoder, window_rows(sound, Cut(seconds=seconds, hop=hop)))

    total = 0
    for start in np.arange(0, max(90.5 - (seconds - hop), hop), hop):
        piece = sound[round(start * SAMPLE_RATE) : round((start + seconds) * SAMPLE_RATE)]
        total = total + len(piece) * encoder.clap.encode_audio([piece], SAMPLE_RATE)[0].numpy()
    np.testing.assert_allclose(pooled.result, total / np.linalg.norm(total), atol=2e-6)


def test_files_between_others_keep_their_order(encoder, sound):
    a, b = (window_rows(sound[: SAMPLE_RATE * 9], Cut(seconds=4, hop=4), path=path) for path in "ab")
    single = clip_row(sound[:SAMPLE_RATE], path="c")

    clips = encode(encoder, [*a, single], [*b[:1]], [*b[1:], error_row()])

    assert [clip.source.path for clip in clips] == ["a", "c", "b", "bad.wav"]
    np.testing.assert_allclose(clips[0].result, clips[2].result, atol=1e-6)


@pytest.mark.parametrize(
    "rows_of",
    [lambda samples: [clip_row(samples)], lambda samples: window_rows(samples, Cut(seconds=7, hop=7))],
    ids=["whole", "windows"],
)
def test_a_clip_without_a_finite_embedding_is_an_error_and_the_others_are_not(encoder, sound, rows_of):
    loud = sound.copy()
    loud[-SAMPLE_RATE:] = 3e29  # of a long file it is the last window
    good = rows_of(sound)
    huge = [row | {"path": "huge.wav"} for row in rows_of(loud)]

    first, bad, again = encode(encoder, [*good, *huge, *good])

    assert (bad.result.code, bad.result.message.split(":")[0]) == ("not_finite", "huge.wav")
    assert (bad.source.start_s, bad.source.end_s) == (0, 90.5)
    (alone,) = encode(encoder, good)
    for clip in (first, again):
        np.testing.assert_allclose(clip.result, alone.result, atol=1e-6)


def test_an_error_of_decoding_passes_through(encoder, sound):
    bad, good = encode(encoder, [error_row(segment=2, start_s=8.0), clip_row(sound)])

    assert bad.result == RowError("damaged", "bad")
    assert (bad.source.segment, bad.source.start_s, bad.source.end_s) == (2, 8.0, None)
    assert isinstance(good.result, np.ndarray)


def test_a_file_that_breaks_among_its_pooled_windows_is_one_error(encoder, sound):
    rows = window_rows(sound, Cut(seconds=4, hop=4))[:5]
    broken = error_row(path="a.wav", segment=5, start_s=20.0, pool_weight_s=0.0)

    (clip,) = encode(encoder, rows[:3], [*rows[3:], broken])

    assert clip.result == RowError("damaged", "bad")
    assert (clip.source.segment, clip.source.start_s, clip.source.end_s) == (0, None, None)
