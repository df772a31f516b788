"""Decoding in processes of its own: what it decodes, and that nothing it meets is more than one refusal."""

import asyncio
import io
import os
import signal
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mats_ray.data.audio import decode_audio
from mats_ray.errors import MATSError
from mats_ray.serving.budgets import Budget, memory_share
from mats_ray.serving.decoding.messages import DecodeRequest
from mats_ray.serving.decoding.pool import DecoderPool, DecoderProcess
from mats_ray.serving.errors import RequestError


def flac_of_silence(seconds, rate):
    file = io.BytesIO()
    soundfile.write(file, np.zeros(seconds * rate, np.int16), rate, format="flac")
    return file.getvalue()


def wav(seconds=0.5, *, rate=8000, channels=2):
    file = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (int(seconds * rate), channels)).astype(np.float32)
    soundfile.write(file, noise, rate, format="wav", subtype="FLOAT")
    return file.getvalue()


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.wav", wav())
    return file.getvalue()


class Stuck(DecoderProcess):
    """Never answers, like a decoder in an endless loop."""

    def decode(self, request, data, acquire_memory):
        self._process.wait()
        raise EOFError


def decode_all(pool, *uploads):
    async def one(data):
        try:
            return await pool.decode(data, name="a.wav")
        except MATSError as error:
            return error

    async def scenario():
        try:
            return await asyncio.gather(*(one(data) for data in uploads))
        finally:
            pool.close()

    return asyncio.run(scenario())


def pool(**options):
    defaults = {"max_seconds": 10, "timeout_seconds": 30, "memory_bytes": 2**32}
    return DecoderPool(2, **(defaults | options))


def test_it_decodes_what_decode_audio_decodes():
    expected = decode_audio(wav(), name="a.wav")

    clips = decode_all(pool(), wav(), wav(), wav())

    for clip in clips:
        np.testing.assert_array_equal(clip.samples, expected.samples)
        assert (clip.sample_rate, clip.name) == (8000, "a.wav")


def test_ordinary_rates_stay_and_higher_ones_become_48_khz():
    uploads = [wav(0.5, rate=rate) for rate in (1000, 44_100, 48_000, 96_000, 768_000)]

    clips = decode_all(pool(), *uploads)

    assert [clip.sample_rate for clip in clips] == [1000, 44_100, 48_000, 48_000, 48_000]
    assert [clip.seconds for clip in clips] == pytest.approx([0.5] * 5, abs=1e-4)
    expected = decode_audio(uploads[3], name="a.wav", sample_rate=48_000)
    np.testing.assert_array_equal(clips[3].samples, expected.samples)


def test_a_high_sample_rate_costs_the_parent_no_more_than_48_khz():
    seconds, upload = 20, flac_of_silence(20, 655_350)  # 52 MB at its own rate

    tracemalloc.start()
    [clip] = decode_all(pool(max_seconds=100), upload)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert clip.seconds == pytest.approx(seconds, abs=1e-3)
    assert peak < 4 * seconds * 48_000 + 2**21 < 2**23


def test_more_samples_than_the_longest_sound_has_at_192_khz_are_refused_unread():
    refused, clip = decode_all(
        pool(max_seconds=40), flac_of_silence(20, 655_350), flac_of_silence(20, 192_000)
    )

    assert refused.code == "too_large"
    assert clip.sample_rate == 48_000


def test_samples_count_as_memory_of_their_request_and_without_room_the_process_serves_on():
    started = []

    def start():
        started.append(DecoderProcess())
        return started[-1]

    one = pool(start=start)

    async def scenario(total):
        with memory_share(Budget(total, "bytes")) as share:
            try:
                clip = await one.decode(wav(2, rate=48_000), name="a.wav")
            except RequestError as error:
                return error.code, share.held
            return clip.samples.nbytes, share.held

    async def scenarios():
        try:
            return [await scenario(total) for total in (100_000, 500_000, 100_000)]
        finally:
            one.close()

    assert asyncio.run(scenarios()) == [("too_large", 0), (384_000, 384_000), ("too_large", 0)]
    assert len(started) <= 2  # one a place: none was lost


def test_a_file_that_is_no_audio_is_refused_and_the_next_is_decoded():
    playlist = b"#EXTM3U\n#EXTINF:1,x\nfile:///etc/passwd\n"
    uploads = [b"", b"text " * 99, zipped(), playlist, wav(11), wav()[:500], wav()]

    *refused, clip = decode_all(pool(), *uploads)

    codes = [error.code for error in refused]
    assert codes == [
        "empty",
        "not_audio",
        "not_audio",
        "not_audio",
        "too_long",
        "truncated",
    ]
    assert clip.seconds == 0.5


def test_a_decoder_that_exceeds_its_limit_is_killed_and_replaced():
    stuck, warm = Stuck(), DecoderProcess()
    request = DecodeRequest("a.wav", max_seconds=9, memory_bytes=2**32)
    warm.decode(request, wav(), acquire_memory=int)  # imports take their time
    ready = iter([stuck, warm])
    limited = DecoderPool(1, max_seconds=9, timeout_seconds=2, memory_bytes=2**32, start=lambda: next(ready))

    refused, clip = decode_all(limited, wav(), wav())

    assert (refused.code, clip.seconds) == ("decode_failed", 0.5)
    assert "more than 2 s" in str(refused)
    assert not stuck.is_alive


def test_a_decoder_killed_from_outside_is_replaced():
    started = []

    def start():
        started.append(DecoderProcess())
        return started[-1]

    one = DecoderPool(1, max_seconds=9, timeout_seconds=30, memory_bytes=2**32, start=start)

    async def scenario():
        await one.decode(wav(), name="a")
        os.kill(started[0].pid, signal.SIGKILL)
        while started[0].is_alive:
            await asyncio.sleep(0.01)
        try:
            return await one.decode(wav(), name="a")
        finally:
            one.close()

    assert asyncio.run(scenario()).seconds == 0.5
    assert len(started) == 2


def test_a_cancelled_caller_leaves_no_decoder_busy():
    started = []

    def start():
        started.append(Stuck() if not started else DecoderProcess())
        return started[-1]

    one = DecoderPool(1, max_seconds=9, timeout_seconds=30, memory_bytes=2**32, start=start)

    async def scenario():
        asking = asyncio.create_task(one.decode(wav(), name="a"))
        while not started:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        asking.cancel()
        start = time.monotonic()
        clip = await one.decode(wav(), name="a")
        one.close()
        return clip, time.monotonic() - start

    clip, seconds = asyncio.run(scenario())

    assert clip.seconds == 0.5
    assert seconds < 20


def test_memory_is_limited():
    [refused] = decode_all(pool(memory_bytes=60_000_000, max_seconds=3600), wav(20, rate=48_000))

    assert refused.code in {"too_large", "decode_failed"}


def test_a_decoding_process_inherits_no_secret(monkeypatch):
    for name in ("MATS_API_KEYS", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "HF_TOKEN", "ANYTHING_ELSE"):
        monkeypatch.setenv(name, "secret-value")

    process = DecoderProcess()
    try:
        request = DecodeRequest("a.wav", max_seconds=9, memory_bytes=2**32)
        process.decode(request, wav(), acquire_memory=int)  # then it is certain to have started
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
    finally:
        process.close()

    assert b"PYTHONPATH=" in environment
    assert b"secret-value" not in environment
