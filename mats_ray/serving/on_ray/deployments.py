"""The service on Ray Serve: an ingress that speaks HTTP, an encoder and an answerer that batch.

    client -> Ingress (limits, decoding) -> Encoder (CLAP) -> Ingress -> Answerer (Santa, language model)

Each scales on its own. torch is imported in the two model replicas only, so the ingress stays small.
"""

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, BackpressureConfig, HTTPOptions
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from mats_ray.config.answer import AnswerOptions
from mats_ray.config.serve import AutoscalingConfig as ScalingConfig
from mats_ray.config.serve import DeploymentConfig, ReplicaConfig, ServeConfig
from mats_ray.errors import ModelError
from mats_ray.on_ray.errors import failure_reason
from mats_ray.serving.batching import BatchThread
from mats_ray.serving.consistency import check_space
from mats_ray.serving.decoding.pool import DecoderPool
from mats_ray.serving.foreground import MAX_CONNECTIONS
from mats_ray.serving.http.access_log import log_as_json
from mats_ray.serving.http.app import make_app
from mats_ray.serving.http.authentication import KeyRing, check_loopback
from mats_ray.serving.on_ray.handles import RemoteAnswerer, RemoteEncoder
from mats_ray.serving.on_ray.metrics import LoadGauges, RaySink, listening_host
from mats_ray.serving.service import WARM_UP_CLIP, WINDOWS_AT_ONCE, AudioService
from mats_ray.serving.types import Embedded, ModelCard, Told
from mats_ray.types import AudioClip

APP_NAME = "mats"
_RETRY_AFTER_SECONDS = 1
_HEALTH_CHECK_SECONDS = 1.0
"""A dead replica is replaced after so long; Serve's own ten would be the longer part of its absence."""
_NICENESS = 5
"""Of processes that compute where the ingress may run, too: a refusal must not wait for an answer."""
REPLICA_ENVIRONMENT = {
    # Our methods never block: they hand their work to threads of their own. Two event loops and their threads
    # less save a third of the time between a request and the model (benchmarks/serving.md).
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}


@serve.deployment(name="Encoder")
class EncoderReplica:
    """Clips and labels to CLAP embeddings, in batches."""

    def __init__(self, config: ServeConfig) -> None:
        from mats_ray.infer.pipeline import AudioEncoder
        from mats_ray.models.directory import read_info

        device = _start_torch(config.threads, gpus=config.encoder.gpus)
        info = read_info(config.model)
        self._space = info.space
        self._encoder = AudioEncoder.from_info(info, device=device)
        self._encoder.encode([WARM_UP_CLIP])
        self._clips = BatchThread(
            self._encode,
            max_items=config.encoder.max_batch_size,
            max_size=config.encoder.max_batch_seconds,
            size_of=lambda clip: clip.seconds,
            wait_seconds=config.encoder.batch_wait_seconds,
        )
        self._labels = BatchThread(self._encode_labels, max_items=1)

    async def check_health(self) -> None:
        """Let Serve replace a replica that encodes no more; it asks every second."""
        self._clips.check_health()
        self._labels.check_health()

    async def encode(self, clip: AudioClip) -> Embedded:
        """Embed one clip: (C,) float32."""
        return Embedded(await self._clips.do(clip), self._space)

    async def encode_labels(self, labels: Sequence[str]) -> Embedded:
        """Embed texts: (N, C) float32."""
        return Embedded(await self._labels.do(labels), self._space)

    def _encode(self, clips: Sequence[AudioClip]) -> list[np.ndarray]:
        return list(self._encoder.encode(clips, before_batch=self._clips.check_wanted))

    def _encode_labels(self, asked: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [self._encoder.clap.encode_text(labels).cpu().numpy() for labels in asked]


@serve.deployment(name="Answerer")
class AnswererReplica:
    """Embeddings and instructions to text; answers join and leave the batch one by one."""

    def __init__(self, config: ServeConfig) -> None:
        from mats_ray.infer.engines import build_engine
        from mats_ray.models.directory import CONFIG, read_info
        from mats_ray.serving.async_engine import Teller

        device = _start_torch(config.threads, gpus=config.answerer.gpus)
        info = read_info(config.model)
        self._space = info.space
        info = replace(info, generation=config.generation or info.generation)
        self._card = ModelCard(
            id=info.model_id,
            created=int((info.directory / CONFIG).stat().st_mtime),
            version=f"{info.model_id} {info.generation.model_dump_json()}",
        )
        self._teller = Teller(build_engine(info, device=device, max_requests=config.answerer.max_batch_size))
        self._gauges = LoadGauges()

    async def check_health(self) -> None:
        """Let Serve replace a replica whose engine has stopped; it asks every second."""
        self._teller.check_health()

    async def describe(self) -> ModelCard:
        """Say which model this is."""
        return self._card

    async def answer(self, embedded: Embedded, instruction: str, options: AnswerOptions) -> Told:
        """Answer one instruction about one embedding (C,)."""
        self._gauges.show(self._teller.load)
        check_space(embedded, self._space)
        told = await self._teller.answer(embedded.vectors, instruction, options)
        return replace(told, by=self._card)

    async def stream(
        self, embedded: Embedded, instruction: str, options: AnswerOptions
    ) -> AsyncIterator[ModelCard | str | Told]:
        """Answer in pieces; the first item says who speaks, the last is the whole."""
        self._gauges.show(self._teller.load)
        check_space(embedded, self._space)
        yield self._card
        async with aclosing(self._teller.stream(embedded.vectors, instruction, options)) as pieces:
            async for piece in pieces:
                yield replace(piece, by=self._card) if isinstance(piece, Told) else piece


@serve.deployment(name="Ingress")
@serve.ingress()
class Ingress:
    """HTTP, limits and audio decoding."""

    def __init__(self, encoder: DeploymentHandle, answerer: DeploymentHandle, config: ServeConfig) -> None:
        log_as_json()
        self._config = config
        self._keys = KeyRing(file=config.api_keys_file, variable=config.api_keys_variable)
        if self._keys.is_open and not config.allow_anonymous:
            check_loopback(listening_host())
        self._service = AudioService(
            RemoteEncoder(encoder, retry_seconds=config.retry_seconds, on_retry=self._count_retry),
            RemoteAnswerer(answerer, retry_seconds=config.retry_seconds, on_retry=self._count_retry),
            decoder=DecoderPool(
                config.decode_processes,
                max_seconds=config.max_audio_seconds,
                timeout_seconds=config.decode_timeout_seconds,
                memory_bytes=config.decode_memory_bytes,
            ),
            limits=config,
        )

    def __serve_build_asgi_app__(self) -> Any:
        """Serve asks for the app in the replica, where the handles are."""
        return make_app(
            self._service, self._config, keys=self._keys, sinks=[RaySink()], echo_request_id=False
        )

    def _count_retry(self, deployment: str) -> None:
        self._service.metrics.record("mats_retries_total", deployment=deployment)


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
    # the app refuses by itself, in JSON; Serve's own refusals, plain text, are never to be needed
    room = max(MAX_CONNECTIONS, 2 * args.max_requests_in_flight)
    ingress = Ingress.options(
        **_replica_options(args.ingress, args), max_ongoing_requests=room, max_queued_requests=room
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
        with suppress(TimeoutError):
            serve.delete(APP_NAME)  # lets requests under way end, if they do within a minute
    finally:
        ray.shutdown()


def _deploy(config: ServeConfig) -> None:
    try:
        serve.run(build_app(config), name=APP_NAME, route_prefix="/")
    except RuntimeError as error:  # it names the deployment only; the reason stands in its status
        deployments = serve.status().applications[APP_NAME].deployments.values()
        reasons = [failure_reason(deployment.message) for deployment in deployments if deployment.message]
        raise ModelError(f"the service did not start: {reasons[0] if reasons else error}") from None


def _replica_options(config: ReplicaConfig, service: ServeConfig) -> dict[str, Any]:
    return {
        # what has begun is answered first, to the end of its stream
        "graceful_shutdown_timeout_s": service.request_timeout_seconds + service.stream_timeout_seconds,
        "max_surge_percent": 100,  # in a roll-out a replica goes when its successor answers, not before
        "health_check_period_s": _HEALTH_CHECK_SECONDS,
        "autoscaling_config": _scaling(config.autoscaling),
        "ray_actor_options": {
            "num_cpus": config.cpus,
            "num_gpus": config.gpus,
            "runtime_env": {"env_vars": REPLICA_ENVIRONMENT},
        },
        "logging_config": LoggingConfig(enable_access_log=False),  # the ingress writes its own
        "backpressure_config": BackpressureConfig(status_code=429, retry_after_s=_RETRY_AFTER_SECONDS),
    }


def _scaling(config: ScalingConfig) -> AutoscalingConfig:
    return AutoscalingConfig(
        min_replicas=config.min_replicas,
        max_replicas=config.max_replicas,
        target_ongoing_requests=config.target_ongoing_requests,
        upscale_delay_s=config.upscale_delay_seconds,
        downscale_delay_s=config.downscale_delay_seconds,
    )


def _batching_options(config: DeploymentConfig, service: ServeConfig) -> dict[str, Any]:
    return {
        **_replica_options(config, service),
        # room for the batch being computed and for the next ones, which gather in the replica
        "max_ongoing_requests": 4 * config.max_batch_size,
        # all that the requests an ingress has admitted call at once, so that none of it is refused: windows,
        # and one call beside them (labels, the model's name)
        "max_queued_requests": service.max_requests_in_flight * (WINDOWS_AT_ONCE + 1),
    }


def _start_torch(threads: int, *, gpus: float) -> str:
    """Limit torch's threads and return the device; on a CPU step back behind the ingress."""
    import torch

    torch.set_num_threads(threads)
    if gpus > 0:
        return "cuda"
    os.nice(_NICENESS)
    return "cpu"
