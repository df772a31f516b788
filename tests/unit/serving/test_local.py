"""Both parts of the model in this process: batches, health, refusals. No cluster."""

import asyncio
import threading
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from starlette.testclient import TestClient

from mats_ray.config.answer import AnswerOptions
from mats_ray.config.serve import EncoderDeploymentConfig, ServeConfig
from mats_ray.errors import AnswerError, AudioError, EngineError
from mats_ray.serving.errors import RequestError
from mats_ray.serving.http.app import make_app
from mats_ray.serving.http.errors import problem_of
from mats_ray.serving.local import LocalAnswerer, LocalEncoder, LocalModel
from mats_ray.serving.service import WARM_UP_CLIP, AudioService
from mats_ray.serving.types import AnswerRequest, Embedding, Upload
from mats_ray.types import AudioClip
from tests.world import CLAP_DIM

OPTIONS = AnswerOptions(profile="fast", max_new_tokens=3)


def test_batches_of_the_encoder_are_limited_by_their_seconds(model_dir, monkeypatch):
    config = EncoderDeploymentConfig(max_batch_size=16, max_batch_seconds=25)
    encoder = LocalEncoder(ServeConfig(model=str(model_dir), encoder=config))
    batches, encode, all_here = [], encoder._encoder.encode, threading.Event()

    def counted(clips, **more):
        batches.append([clip.seconds for clip in clips])
        assert all_here.wait(20)
        return encode(clips, **more)

    monkeypatch.setattr(encoder._encoder, "encode", counted)

    async def scenario():
        calls = [asyncio.create_task(encoder.encode(silence(n))) for n in [1, 10, 10, 10, 60, 5, 5]]
        await asyncio.sleep(0)
        all_here.set()
        return await asyncio.gather(*calls)

    assert len(asyncio.run(scenario())) == 7
    assert list(chain(*batches)) == [1, 10, 10, 10, 60, 5, 5]
    assert batches[-2:] == [[60], [5, 5]]
    assert all(sum(batch) <= 25 or len(batch) == 1 for batch in batches)


def test_a_clip_whose_caller_is_cancelled_is_not_embedded_to_its_end(model_dir, monkeypatch):
    encoder = LocalEncoder(ServeConfig(model=str(model_dir)))
    clap = encoder._encoder.clap
    embed, started, release, passes = clap._embed_pieces, threading.Event(), threading.Event(), []

    def gated(pieces, *, center):
        passes.append(len(pieces))
        started.set()
        assert release.wait(20)
        return embed(pieces, center=center)

    monkeypatch.setattr(clap, "_embed_pieces", gated)

    async def scenario():
        call = asyncio.create_task(encoder.encode(silence(600)))
        await asyncio.to_thread(started.wait, 20)
        call.cancel()
        await asyncio.sleep(0)
        release.set()
        return await encoder.encode(WARM_UP_CLIP)

    asyncio.run(scenario())

    assert len(passes) == 2  # one of the many of the long sound, and the next clip


def silence(seconds):
    return AudioClip(samples=np.zeros(seconds * 8000, np.float32), sample_rate=8000)


def test_an_answerer_accepts_embeddings_of_its_own_encoder_only(model_dir):
    config = ServeConfig(model=str(model_dir))
    encoder, answerer = LocalEncoder(config), LocalAnswerer(config)

    async def scenario():
        embedding = await encoder.encode(WARM_UP_CLIP)
        result = await answerer.answer(embedding, "A dog?", OPTIONS)
        events = await collect(answerer.stream(embedding, "A dog?", OPTIONS))
        for call in (answerer.answer, lambda *request: anext(answerer.stream(*request))):
            with pytest.raises(RequestError) as caught:
                await call(replace(embedding, space="another CLAP"), "A dog?", OPTIONS)
            assert caught.value.code == "rolling_out"
        return [result, *events]

    models = {event.model for event in asyncio.run(scenario())}

    assert [model.id.startswith("tiny") for model in models] == [True]


def test_a_replica_whose_engine_has_stopped_is_unhealthy(model_dir, monkeypatch):
    model = LocalModel(ServeConfig(model=str(model_dir)))
    asyncio.run(model.check_health())
    replica = model.answerer
    embedding = Embedding(np.ones(CLAP_DIM, np.float32), replica._space)

    def stop():
        raise SystemExit

    async def scenario():
        await replica.check_health()
        monkeypatch.setattr(replica._engine._engine._batch, "step", stop)
        with pytest.raises(EngineError) as caught:
            await replica.answer(embedding, "A dog?", OPTIONS)
        return caught.value

    assert asyncio.run(scenario()).in_flight
    with pytest.raises(EngineError, match="SystemExit"):
        asyncio.run(replica.check_health())
    with pytest.raises(EngineError, match="SystemExit"):
        asyncio.run(model.check_health())


def test_a_cancelled_request_leaves_the_batch(parts, monkeypatch):
    encoder, answerer = parts
    batch, started, release = answerer._engine._engine._batch, threading.Event(), threading.Event()
    step = batch.step

    def gated():
        started.set()
        assert release.wait(20)
        return step()

    monkeypatch.setattr(batch, "step", gated)
    request = AnswerRequest(upload=Upload(data=b"RIFF", name="a.wav"), question="A dog?", options=OPTIONS)

    async def scenario():
        service = AudioService(encoder, answerer, decoder=WarmUpDecoder())
        call = asyncio.create_task(service.answer(request))
        await asyncio.to_thread(started.wait, 20)
        running = answerer._engine.load.running
        call.cancel()
        await asyncio.wait([call])
        release.set()
        after = await service.answer(request)
        return running, answerer._engine.load.running, after.windows[0][1].batch_size

    assert asyncio.run(scenario()) == (1, 0, 1)


class WarmUpDecoder:
    """Decodes everything to the same clip."""

    async def decode(self, data, *, name):
        return WARM_UP_CLIP

    def close(self):
        pass


def test_a_question_beyond_the_models_positions_is_refused_with_its_numbers(model_dir):
    replica = LocalAnswerer(ServeConfig(model=str(model_dir)))
    embedding, long = Embedding(np.ones(CLAP_DIM, np.float32), replica._space), "Is it loud? " * 80

    async def refusals():
        for call in (replica.answer, lambda *request: collect(replica.stream(*request))):
            with pytest.raises(AnswerError) as caught:
                await call(embedding, long, OPTIONS)
            yield problem_of(caught.value)

    for problem in asyncio.run(collect(refusals())):
        assert (problem.status, problem.code) == (422, "invalid_field")
        assert "an answer of up to 3 are" in problem.message
        assert "the language model has 512 positions" in problem.message


async def collect(items):
    return [item async for item in items]


class HugeDecoder:
    """Finite samples, far outside [-1, 1]."""

    async def decode(self, data, *, name):
        return AudioClip(samples=np.full(16_000, 3e29, np.float32), sample_rate=16_000, name=name)

    def close(self):
        pass


@pytest.fixture(scope="module")
def parts(model_dir):
    config = ServeConfig(model=str(model_dir))
    model = LocalModel(config)
    return [model.encoder, model.answerer]


@pytest.mark.parametrize(
    ("route", "form"),
    [
        ("captions", {}),
        ("captions", {"window": "1"}),
        ("questions", {"question": "A dog?"}),
        ("classifications", {"labels": "dog, cat"}),
        ("embeddings", {}),
    ],
)
def test_a_sound_without_a_finite_embedding_is_422(parts, route, form):
    app = make_app(AudioService(*parts, decoder=HugeDecoder()), ServeConfig())

    with TestClient(app) as client:
        reply = client.post(f"/v1/audio/{route}", files={"file": ("huge.wav", b"RIFF")}, data=form)

    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (422, "not_finite", "file")
    assert error["message"].startswith("huge.wav: its CLAP embedding is not finite")


def test_a_sound_without_a_finite_embedding_fails_alone(parts):
    encoder, _ = parts
    huge = AudioClip(samples=np.full(16_000, 3e29, np.float32), sample_rate=16_000)

    async def encode():
        clips = [WARM_UP_CLIP, huge, WARM_UP_CLIP]
        return await asyncio.gather(*map(encoder.encode, clips), return_exceptions=True)

    first, bad, last = asyncio.run(encode())

    assert isinstance(bad, AudioError)
    np.testing.assert_array_equal(first.vectors, last.vectors)
    assert np.isfinite(first.vectors).all()
