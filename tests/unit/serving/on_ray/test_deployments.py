"""The configuration of the deployments; no cluster."""

import asyncio
import subprocess
import sys
import threading
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from starlette.testclient import TestClient

from mats_ray.config.answer import AnswerOptions
from mats_ray.config.serve import AutoscalingConfig, DeploymentConfig, EncoderDeploymentConfig, ServeConfig
from mats_ray.errors import AnswerError, AudioError, EngineError
from mats_ray.serving.errors import RequestError
from mats_ray.serving.http.app import make_app
from mats_ray.serving.http.errors import problem_of
from mats_ray.serving.on_ray.deployments import AnswererReplica, EncoderReplica, build_app
from mats_ray.serving.service import MAX_CONCURRENT_WINDOWS, WARM_UP_CLIP, AudioService
from mats_ray.serving.types import Embedding
from mats_ray.types import AudioClip
from tests.world import CLAP_DIM

OPTIONS = AnswerOptions(profile="fast", max_new_tokens=3)


def test_replicas_hold_several_batches_and_scale_as_configured():
    scaling = AutoscalingConfig(min_replicas=0, max_replicas=7, target_ongoing_requests=3)
    config = ServeConfig(encoder=EncoderDeploymentConfig(max_batch_size=10, gpus=0.5, autoscaling=scaling))

    encoder = parts(build_app(config))["Encoder"]

    assert encoder.max_ongoing_requests >= 40
    assert encoder._deployment_config.autoscaling_config.max_replicas == 7
    assert encoder.ray_actor_options.items() >= {"num_cpus": 0.5, "num_gpus": 0.5}.items()


def test_no_call_of_an_admitted_request_is_refused_by_a_queue():
    deployments = parts(build_app(ServeConfig(max_requests_in_flight=5)))

    for name in ("Encoder", "Answerer"):
        assert deployments[name]._deployment_config.max_queued_requests >= 5 * (MAX_CONCURRENT_WINDOWS + 1)


def test_batches_of_the_encoder_are_limited_by_their_seconds(model_dir, monkeypatch):
    config = EncoderDeploymentConfig(max_batch_size=16, max_batch_seconds=25)
    encoder = EncoderReplica.func_or_class(ServeConfig(model=str(model_dir), encoder=config))
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
    encoder = EncoderReplica.func_or_class(ServeConfig(model=str(model_dir)))
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


def test_a_roll_out_waits_for_the_new_replica_and_for_the_end_of_streams():
    for deployment in parts(build_app(ServeConfig(stream_timeout_seconds=500))).values():
        config = deployment._deployment_config
        assert config.max_surge_percent == 100
        assert config.graceful_shutdown_timeout_s >= 500


def test_scaling_is_as_configured():
    scaling = AutoscalingConfig(min_replicas=0, upscale_delay_seconds=1, downscale_delay_seconds=2)

    answerer = parts(build_app(ServeConfig(answerer=DeploymentConfig(autoscaling=scaling))))["Answerer"]

    made = answerer._deployment_config.autoscaling_config
    assert (made.min_replicas, made.upscale_delay_s, made.downscale_delay_s) == (0, 1, 2)


def test_the_model_is_found_from_any_working_directory(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)

    assert parts(build_app(ServeConfig(model="model")))["Encoder"].init_args[0].model == str(
        tmp_path / "model"
    )
    assert parts(build_app(ServeConfig(model="s3ish/m")))["Encoder"].init_args[0].model == "s3ish/m"


def test_the_ingress_imports_no_torch():
    code = "import sys, mats_ray.serving.on_ray.deployments; print('torch' in sys.modules)"

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert out.strip() == "False"


def test_an_answerer_accepts_embeddings_of_its_own_encoder_only(model_dir):
    config = ServeConfig(model=str(model_dir))
    encoder, answerer = (one.func_or_class(config) for one in (EncoderReplica, AnswererReplica))

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
    replica = AnswererReplica.func_or_class(ServeConfig(model=str(model_dir)))
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


def test_a_question_beyond_the_models_positions_is_refused_with_its_numbers(model_dir):
    replica = AnswererReplica.func_or_class(ServeConfig(model=str(model_dir)))
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
def replicas(model_dir):
    config = ServeConfig(model=str(model_dir))
    return [one.func_or_class(config) for one in (EncoderReplica, AnswererReplica)]


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
def test_a_sound_without_a_finite_embedding_is_422(replicas, route, form):
    app = make_app(AudioService(*replicas, decoder=HugeDecoder()), ServeConfig())

    with TestClient(app) as client:
        reply = client.post(f"/v1/audio/{route}", files={"file": ("huge.wav", b"RIFF")}, data=form)

    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (422, "not_finite", "file")
    assert error["message"].startswith("huge.wav: its CLAP embedding is not finite")


def test_a_sound_without_a_finite_embedding_fails_alone(replicas):
    encoder, _ = replicas
    huge = AudioClip(samples=np.full(16_000, 3e29, np.float32), sample_rate=16_000)

    async def encode():
        clips = [WARM_UP_CLIP, huge, WARM_UP_CLIP]
        return await asyncio.gather(*map(encoder.encode, clips), return_exceptions=True)

    first, bad, last = asyncio.run(encode())

    assert isinstance(bad, AudioError)
    np.testing.assert_array_equal(first.vectors, last.vectors)
    assert np.isfinite(first.vectors).all()


def parts(app):
    """Deployments of an application by name."""
    ingress = app._bound_deployment
    bound = [ingress, *(arg._bound_deployment for arg in ingress.init_args[:2])]
    return {deployment.name: deployment for deployment in bound}
