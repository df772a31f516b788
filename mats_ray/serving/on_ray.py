"""The service on Ray Serve: an ingress that speaks HTTP, an encoder and an answerer that batch.

    client -> Ingress (limits, decoding) -> Encoder (CLAP) -> Ingress -> Answerer (Santa, language model)

Each scales on its own. torch is imported in the two model replicas only, so the ingress stays small.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.config import AutoscalingConfig, BackpressureConfig, HTTPOptions
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from mats_ray.config.infer import DeploymentConfig, GenerationConfig, ReplicaConfig, ServeConfig
from mats_ray.data.audio import decode_audio
from mats_ray.errors import MATSError, ModelError
from mats_ray.serving.app import make_app
from mats_ray.serving.batches import Gathering, Outcome
from mats_ray.serving.foreground import last_words
from mats_ray.serving.problems import RequestError
from mats_ray.serving.service import WARM_UP_CLIP, AudioService, ModelCard
from mats_ray.types import Answer, AudioClip

APP_NAME = "mats"
_RETRY_AFTER_SECONDS = 1


@serve.deployment(name="Encoder")
class EncoderReplica:
    """Clips to CLAP embeddings, in batches."""

    def __init__(self, config: ServeConfig) -> None:
        from mats_ray.infer.pipeline import AudioEncoder

        device = _start_torch(config.threads, gpus=config.encoder.gpus)
        self._encoder = AudioEncoder.from_pretrained(config.model, device=device)
        self._encoder.encode([WARM_UP_CLIP])
        self._gathering = Gathering()
        _set_batching(self._encode_batch, config.encoder)

    async def encode(self, clip: AudioClip) -> np.ndarray:
        """Embed one clip: (C,) float32."""
        await self._gathering.wait()
        outcome: Outcome[np.ndarray] = await self._encode_batch(clip)  # pyright: ignore
        return outcome.unwrap()

    @serve.batch
    async def _encode_batch(self, clips: list[AudioClip]) -> list[Outcome[np.ndarray]]:
        return await self._gathering.compute(self._encode, clips)

    def _encode(self, clips: Sequence[AudioClip]) -> list[np.ndarray]:
        return list(self._encoder.encode(clips))


@serve.deployment(name="Answerer")
class AnswererReplica:
    """Embeddings and instructions to text, in batches."""

    def __init__(self, config: ServeConfig) -> None:
        from mats_ray.infer.pipeline import Answerer
        from mats_ray.models.directory import CONFIG, read_info

        device = _start_torch(config.threads, gpus=config.answerer.gpus)
        info = read_info(config.model)
        self._card = ModelCard(id=info.model_id, created=int((info.directory / CONFIG).stat().st_mtime))
        self._answerer = Answerer.from_info(info, device=device)
        self._generation = config.generation
        one_token = GenerationConfig(profile="fast", max_new_tokens=1)
        self._answerer.answer(
            np.ones((1, info.model.clap.dim), np.float32), ["warm-up"], generation=one_token
        )
        self._gathering = Gathering()
        _set_batching(self._answer_batch, config.answerer)

    async def describe(self) -> ModelCard:
        """Say which model this is."""
        return self._card

    async def answer(self, embedding: np.ndarray, instruction: str) -> Answer:
        """Answer one instruction about one embedding (C,)."""
        await self._gathering.wait()
        outcome: Outcome[Answer] = await self._answer_batch((embedding, instruction))  # pyright: ignore
        return outcome.unwrap()

    @serve.batch
    async def _answer_batch(self, asked: list[tuple[np.ndarray, str]]) -> list[Outcome[Answer]]:
        return await self._gathering.compute(self._answer, asked)

    def _answer(self, asked: Sequence[tuple[np.ndarray, str]]) -> list[Answer]:
        embeddings_NC = np.stack([embedding for embedding, _ in asked])
        instructions = [instruction for _, instruction in asked]
        return self._answerer.answer(embeddings_NC, instructions, generation=self._generation)


@serve.deployment(name="Ingress")
@serve.ingress()
class Ingress:
    """HTTP, limits and audio decoding."""

    def __init__(self, encoder: DeploymentHandle, answerer: DeploymentHandle, config: ServeConfig) -> None:
        self._config = config
        self._service = AudioService(
            RemoteEncoder(encoder),
            RemoteAnswerer(answerer),
            decode=partial(decode_audio, max_seconds=config.max_audio_seconds),
            decode_threads=config.decode_threads,
            max_question_characters=config.max_question_characters,
        )

    def __serve_build_asgi_app__(self) -> Any:
        """Serve asks for the app in the replica, where the handles are."""
        return make_app(self._service, self._config, echo_request_id=False)


class RemoteEncoder:
    """The encoder behind a handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def encode(self, clip: AudioClip) -> np.ndarray:
        """Embed one clip: (C,) float32."""
        return await _call(self._handle.encode, clip)


class RemoteAnswerer:
    """The answerer behind a handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def answer(self, embedding: np.ndarray, instruction: str) -> Answer:
        """Answer one instruction about one embedding (C,)."""
        return await _call(self._handle.answer, embedding, instruction)

    async def describe(self) -> ModelCard:
        """Say which model this is."""
        return await _call(self._handle.describe)


def build_app(args: ServeConfig) -> serve.Application:
    """Build the application; touches neither the model nor the cluster.

    Example::

        serve.run(build_app(ServeConfig(model="out/demo/model")))
    """
    path = Path(args.model).expanduser()
    if path.exists():  # replicas may have another working directory
        args = args.model_copy(update={"model": str(path.resolve())})
    encoder = EncoderReplica.options(**_batching_options(args.encoder, args)).bind(args)
    answerer = AnswererReplica.options(**_batching_options(args.answerer, args)).bind(args)
    ingress = Ingress.options(
        **_replica_options(args.ingress),
        # the app refuses by itself, in JSON; what Serve's proxy would say is only the second line
        max_ongoing_requests=2 * args.max_requests_in_flight + 16,
        max_queued_requests=args.max_requests_in_flight,
    )
    return ingress.bind(encoder, answerer, args)


@contextmanager
def local_server(config: ServeConfig, *, host: str, port: int) -> Iterator[str]:
    """Run Ray and the service on this machine; yields the service's URL once it answers.

    Raises:
        ModelError: A part of the model cannot be loaded.
    """
    deployments = (config.ingress, config.encoder, config.answerer)
    cpus = sum(deployment.cpus * deployment.autoscaling.max_replicas for deployment in deployments)
    ray.init(
        address="local",
        num_cpus=max(os.cpu_count() or 1, int(cpus) + 1),  # a logical number: one core is enough
        log_to_driver=False,  # replicas log to files; what a client sees is in the reply
    )
    try:
        serve.start(http_options=HTTPOptions(host=host, port=port))
        _deploy(config)
        yield f"http://{host}:{port}"
        serve.delete(APP_NAME)  # lets requests under way end
    finally:
        ray.shutdown()


def _deploy(config: ServeConfig) -> None:
    try:
        serve.run(build_app(config), name=APP_NAME, route_prefix="/")
    except RuntimeError as error:  # it names the deployment only; the reason stands in its status
        deployments = serve.status().applications[APP_NAME].deployments.values()
        reasons = [last_words(deployment.message) for deployment in deployments if deployment.message]
        raise ModelError(f"the service did not start: {reasons[0] if reasons else error}") from None


async def _call(method: Any, *args: Any) -> Any:
    """Call a deployment; what Ray says about it becomes what a client may read."""
    response = method.remote(*args)
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise
    except BackPressureError:
        raise RequestError("too many requests are waiting for the model", code="overloaded") from None
    except (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError) as error:
        raise RequestError("the model is not running at the moment", code="unavailable") from error
    except RayTaskError as error:
        if isinstance(error.cause, MATSError):
            raise error.cause from None
        raise  # its text holds the remote traceback, for the log


def _replica_options(config: ReplicaConfig) -> dict[str, Any]:
    return {
        "autoscaling_config": AutoscalingConfig(**config.autoscaling.model_dump()),
        "ray_actor_options": {"num_cpus": config.cpus, "num_gpus": config.gpus},
        "backpressure_config": BackpressureConfig(status_code=429, retry_after_s=_RETRY_AFTER_SECONDS),
    }


def _batching_options(config: DeploymentConfig, service: ServeConfig) -> dict[str, Any]:
    return {
        **_replica_options(config),
        # room for the batch being computed and for the next ones, which gather in the replica
        "max_ongoing_requests": 4 * config.max_batch_size,
        "max_queued_requests": service.max_requests_in_flight,
    }


def _set_batching(method: Callable[..., Awaitable[Any]], config: DeploymentConfig) -> None:
    """``@serve.batch`` takes its numbers when the class is defined; the configuration comes later."""
    method.set_max_batch_size(config.max_batch_size)  # pyright: ignore[reportFunctionMemberAccess]
    method.set_batch_wait_timeout_s(config.batch_wait_seconds)  # pyright: ignore[reportFunctionMemberAccess]


def _start_torch(threads: int, *, gpus: float) -> str:
    """Limit torch's threads and return the device."""
    import torch

    torch.set_num_threads(threads)
    return "cuda" if gpus > 0 else "cpu"
