"""The deployments of Ray Serve: an ingress for HTTP, an encoder and an answerer that batch.

    client -> Ingress (limits, decoding) -> Encoder (CLAP) -> Ingress -> Answerer (Santa, language model)

Each scales on its own. torch is imported in the two model replicas only, so the ingress stays small.
"""

import logging
import os
from collections.abc import Iterator, Sequence
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
from mats_ray.models.startup import without_garbage_collection
from mats_ray.on_ray.errors import failure_reason
from mats_ray.serving.batching import BatchThread
from mats_ray.serving.consistency import check_space
from mats_ray.serving.decoding.pool import DecoderPool
from mats_ray.serving.foreground import MAX_CONNECTIONS
from mats_ray.serving.http.access_log import log_as_json
from mats_ray.serving.http.app import make_app
from mats_ray.serving.http.authentication import KeyRing, check_loopback
from mats_ray.serving.on_ray.handles import AnswererHandle, EncoderHandle
from mats_ray.serving.on_ray.metrics import LoadGauges, RaySink, listening_host
from mats_ray.serving.service import MAX_CONCURRENT_WINDOWS, WARM_UP_CLIP, AudioService
from mats_ray.serving.types import AnswerEvents, AnswerResult, Embedding, ModelCard
from mats_ray.types import AudioClip

APP_NAME = "mats"
_RETRY_AFTER_SECONDS = 1
_HEALTH_CHECK_SECONDS = 1.0
"""Time until a dead replica is noticed; Serve's own ten seconds are longer than replacing it."""
_NICENESS = 5
"""Niceness of the processes that compute, so that an ingress on the same machine can refuse at once."""
REPLICA_ENVIRONMENT = {
    # Our methods never block: they pass their work to threads of their own. Without Serve's two further event
    # loops the way from a request to the model is a third shorter (benchmarks/serving.md).
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}


@serve.deployment(name="Encoder")
class EncoderReplica:
    """Clips and labels to CLAP embeddings, in batches."""

    @without_garbage_collection
    def __init__(self, config: ServeConfig) -> None:
        from mats_ray.infer.encoder import AudioEncoder
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
        """Raise if the replica cannot encode, so that Serve replaces it; called every second."""
        self._clips.check_health()
        self._labels.check_health()

    async def encode(self, clip: AudioClip) -> Embedding:
        """Embed one clip: (C,) float32."""
        return Embedding(await self._clips.do(clip), self._space)

    async def encode_labels(self, labels: Sequence[str]) -> Embedding:
        """Embed texts: (N, C) float32."""
        return Embedding(await self._labels.do(labels), self._space)

    def _encode(self, clips: Sequence[AudioClip]) -> list[np.ndarray]:
        return list(self._encoder.encode(clips, before_batch=self._clips.raise_if_abandoned))

    def _encode_labels(self, batch: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [self._encoder.clap.encode_text(labels).cpu().numpy() for labels in batch]


@serve.deployment(name="Answerer")
class AnswererReplica:
    """Embeddings and instructions to text; answers join and leave the batch one by one."""

    @without_garbage_collection
    def __init__(self, config: ServeConfig) -> None:
        from mats_ray.infer.engines import build_engine
        from mats_ray.models.directory import CONFIG, read_info
        from mats_ray.serving.async_engine import AsyncEngine

        device = _start_torch(config.threads, gpus=config.answerer.gpus)
        info = read_info(config.model)
        self._space = info.space
        info = replace(info, generation=config.generation or info.generation)
        card = ModelCard(
            id=info.model_id,
            created=int((info.directory / CONFIG).stat().st_mtime),
            version=f"{info.model_id} {info.generation.model_dump_json()}",
        )
        engine = build_engine(info, device=device, max_requests=config.answerer.max_batch_size)
        self._engine = AsyncEngine(engine, card)
        self._gauges = LoadGauges()

    async def check_health(self) -> None:
        """Raise if the engine has stopped, so that Serve replaces the replica; called every second."""
        self._engine.check_health()

    async def describe(self) -> ModelCard:
        """Return the identity of the model that answers."""
        return self._engine.model

    async def answer(self, embedding: Embedding, instruction: str, options: AnswerOptions) -> AnswerResult:
        """Answer one instruction about one embedding (C,)."""
        self._gauges.set(self._engine.load)
        check_space(embedding, self._space)
        return await self._engine.answer(embedding.vectors, instruction, options)

    async def stream(self, embedding: Embedding, instruction: str, options: AnswerOptions) -> AnswerEvents:
        """Yield the answer in deltas, then the result."""
        self._gauges.set(self._engine.load)
        check_space(embedding, self._space)
        async with aclosing(self._engine.stream(embedding.vectors, instruction, options)) as events:
            async for event in events:
                yield event


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
            EncoderHandle(encoder, retry_seconds=config.retry_seconds, on_retry=self._count_retry),
            AnswererHandle(answerer, retry_seconds=config.retry_seconds, on_retry=self._count_retry),
            decoder=DecoderPool(
                config.decode_processes,
                max_seconds=config.max_audio_seconds,
                timeout_seconds=config.decode_timeout_seconds,
                memory_bytes=config.decode_memory_bytes,
            ),
            limits=config,
        )

    def __serve_build_asgi_app__(self) -> Any:
        """Make the app; called by Serve in the replica, where the handles are."""
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
    # the app refuses requests itself, in JSON, before Serve would, in plain text
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
        logging_level=logging.ERROR,
        log_to_driver=False,  # replicas log to files
    )
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # of this process: it tells of its own start
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
    except RuntimeError as error:  # its text names the deployment only; the reason is in the status
        deployments = serve.status().applications[APP_NAME].deployments.values()
        reasons = [failure_reason(deployment.message) for deployment in deployments if deployment.message]
        raise ModelError(f"the service did not start: {reasons[0] if reasons else error}") from None


def _replica_options(config: ReplicaConfig, service: ServeConfig) -> dict[str, Any]:
    return {
        # requests in flight are answered first, to the end of their streams
        "graceful_shutdown_timeout_s": service.request_timeout_seconds + service.stream_timeout_seconds,
        "max_surge_percent": 100,  # a roll-out stops a replica when its successor answers, not before
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
        # the batch being computed and the next ones, which gather in the replica
        "max_ongoing_requests": 4 * config.max_batch_size,
        # every concurrent call of the requests that an ingress admits, so that none is refused: windows, and
        # one more (labels, the model's name)
        "max_queued_requests": service.max_requests_in_flight * (MAX_CONCURRENT_WINDOWS + 1),
    }


def _start_torch(threads: int, *, gpus: float) -> str:
    """Limit torch's threads and return the device; on a CPU lower the process's priority."""
    import torch

    torch.set_num_threads(threads)
    if gpus > 0:
        return "cuda"
    os.nice(_NICENESS)
    return "cpu"
