"""The deployments of Ray Serve, in one of two layouts.

    disaggregated: client -> Ingress (limits, decoding) -> Encoder (CLAP) -> Ingress -> Answerer (Santa, LLM)
    colocated: client -> Ingress, which holds encoder and answerer

The first scales its parts apart, and its ingress stays small: torch is imported in the two model replicas
only. The second has no calls between processes.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, BackpressureConfig, HTTPOptions
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from mats_ray.config.serve import AutoscalingConfig as ScalingConfig
from mats_ray.config.serve import DeploymentConfig, ReplicaConfig, ServeConfig
from mats_ray.errors import ModelError
from mats_ray.on_ray.errors import failure_reason
from mats_ray.serving.decoding.pool import DecoderPool
from mats_ray.serving.foreground import MAX_CONNECTIONS
from mats_ray.serving.http.access_log import log_as_json
from mats_ray.serving.http.app import make_app
from mats_ray.serving.http.authentication import KeyRing, check_loopback
from mats_ray.serving.local import LocalAnswerer, LocalEncoder, LocalModel
from mats_ray.serving.on_ray.handles import AnswererHandle, EncoderHandle
from mats_ray.serving.on_ray.metrics import LoadGauges, RaySink, listening_host
from mats_ray.serving.service import MAX_CONCURRENT_WINDOWS, AudioService
from mats_ray.serving.types import AnswererClient, EncoderClient

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
class EncoderReplica(LocalEncoder):
    """The encoder in a process of its own."""

    def __init__(self, config: ServeConfig) -> None:
        _yield_to_the_ingress(config.encoder)
        super().__init__(config)


@serve.deployment(name="Answerer")
class AnswererReplica(LocalAnswerer):
    """The answerer in a process of its own."""

    def __init__(self, config: ServeConfig) -> None:
        _yield_to_the_ingress(config.answerer)
        super().__init__(config, on_load=LoadGauges().set)


class HTTPReplica:
    """HTTP, limits and audio decoding, in front of encoder and answerer."""

    def start(self, encoder: EncoderClient, answerer: AnswererClient, config: ServeConfig) -> None:
        """Make the service; to be called in the constructor of a replica.

        Raises:
            ConfigError: It would be open to other hosts without keys.
        """
        log_as_json()
        self._config = config
        self._keys = KeyRing(file=config.api_keys_file, variable=config.api_keys_variable)
        if self._keys.is_open and not config.allow_anonymous:
            check_loopback(listening_host())
        decoder = DecoderPool(
            config.decode_processes,
            max_seconds=config.max_audio_seconds,
            timeout_seconds=config.decode_timeout_seconds,
            memory_bytes=config.decode_memory_bytes,
        )
        self._service = AudioService(encoder, answerer, decoder=decoder, limits=config)

    def __serve_build_asgi_app__(self) -> Any:
        """Make the app; called by Serve in the replica, where the handles are."""
        return make_app(
            self._service, self._config, keys=self._keys, sinks=[RaySink()], echo_request_id=False
        )


@serve.deployment(name="Ingress")
@serve.ingress()
class Ingress(HTTPReplica):
    """HTTP in a process of its own; it calls the other two."""

    def __init__(self, encoder: DeploymentHandle, answerer: DeploymentHandle, config: ServeConfig) -> None:
        seconds, count = config.retry_seconds, self._count_retry
        self.start(
            EncoderHandle(encoder, retry_seconds=seconds, on_retry=count),
            AnswererHandle(answerer, retry_seconds=seconds, on_retry=count),
            config,
        )

    def _count_retry(self, deployment: str) -> None:
        self._service.metrics.record("mats_retries_total", deployment=deployment)


@serve.deployment(name="Ingress")
@serve.ingress()
class ColocatedIngress(HTTPReplica):
    """HTTP, encoder and answerer in one process: no calls between them, no scaling of one alone."""

    def __init__(self, config: ServeConfig) -> None:
        self._model = LocalModel(config, on_load=LoadGauges().set)
        self.start(self._model.encoder, self._model.answerer, config)

    async def check_health(self) -> None:
        """Raise EngineError if encoder or answerer have stopped, so that Serve replaces the replica."""
        await self._model.check_health()


def build_app(args: ServeConfig) -> serve.Application:
    """Build the application; touches neither the model nor the cluster.

    Example::

        serve.run(build_app(ServeConfig(model="out/demo/model")))
    """
    path = Path(args.model).expanduser()
    if path.exists():  # replicas may have another working directory
        args = args.model_copy(update={"model": str(path.resolve())})
    # the app refuses requests itself, in JSON, before Serve would, in plain text
    room = max(MAX_CONNECTIONS, 2 * args.max_requests_in_flight)
    front: dict[str, Any] = {"max_ongoing_requests": room, "max_queued_requests": room}
    if args.layout == "colocated":
        front |= _replica_options(_sum_of_parts(args), args)
        return ColocatedIngress.options(**front).bind(args)
    encoder = EncoderReplica.options(**_batching_options(args.encoder, args)).bind(args)
    answerer = AnswererReplica.options(**_batching_options(args.answerer, args)).bind(args)
    return Ingress.options(**front, **_replica_options(args.ingress, args)).bind(encoder, answerer, args)


@contextmanager
def local_server(config: ServeConfig, *, host: str, port: int) -> Iterator[str]:
    """Run Ray and the service on this machine; yields the service's URL once it answers.

    Raises:
        ModelError: A part of the model cannot be loaded.
    """
    parts = (config.ingress, config.encoder, config.answerer)
    deployments = [_sum_of_parts(config)] if config.layout == "colocated" else parts
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


def _sum_of_parts(config: ServeConfig) -> ReplicaConfig:
    """Return the resources of a replica that holds all parts; their number is the ingress's."""
    parts = (config.ingress, config.encoder, config.answerer)
    return config.ingress.model_copy(
        update={"cpus": sum(part.cpus for part in parts), "gpus": sum(part.gpus for part in parts)}
    )


def _yield_to_the_ingress(part: ReplicaConfig) -> None:
    """Lower the priority of a process that computes on CPUs."""
    if not part.gpus:
        os.nice(_NICENESS)
