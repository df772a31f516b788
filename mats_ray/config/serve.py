"""Section ``serve``: the HTTP service and its deployments."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from mats_ray.config.base import StrictConfig, Within
from mats_ray.config.generation import GenerationConfig
from mats_ray.config.paths import StoragePath

Layout = Literal["disaggregated", "colocated"]
COLOCATED_BELOW_CORES = 4
"""Number of CPU cores from which on ``mats serve`` chooses deployments of their own."""


class AutoscalingConfig(StrictConfig):
    """Replicas of one Serve deployment."""

    min_replicas: Annotated[int, Field(ge=0)] = 1
    max_replicas: PositiveInt = 2
    target_ongoing_requests: PositiveFloat = 16
    """Requests per replica, averaged over half a minute; above it another replica is started."""
    upscale_delay_seconds: Annotated[float, Field(ge=0)] = 10
    """Seconds of high load before a replica is added."""
    downscale_delay_seconds: Annotated[float, Field(ge=0)] = 600
    """Seconds of low load before a replica is removed."""

    @model_validator(mode="after")
    def bounds_in_order(self) -> "AutoscalingConfig":
        """Refuse a minimum above the maximum, which Serve would report only when deploying."""
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas={self.min_replicas} is more than max_replicas={self.max_replicas}"
            )
        return self


class ReplicaConfig(StrictConfig):
    """Number of replicas of one Serve deployment, and the resources of each."""

    autoscaling: AutoscalingConfig = AutoscalingConfig()
    cpus: PositiveFloat = 0.5
    gpus: Annotated[float, Within(0, 1)] = 0


class DeploymentConfig(ReplicaConfig):
    """One Serve deployment that answers in batches."""

    max_batch_size: PositiveInt = 16


class EncoderDeploymentConfig(DeploymentConfig):
    """The encoder's deployment; its batches are embedded in one call."""

    max_batch_seconds: PositiveFloat = 160
    """Seconds of audio in one batch; a longer clip is a batch of its own."""
    batch_wait_seconds: Annotated[float, Field(ge=0)] = 0
    """Seconds that an idle replica waits for more requests; a busy one collects its next batch anyway."""


class TracingConfig(StrictConfig):
    """OpenTelemetry spans of requests and their stages."""

    exporter: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    """``module:name`` of a span exporter's class, made without arguments; configured by ``OTEL_*``."""
    sampling_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of traced requests among those whose caller has not decided it (``traceparent``)."""


class ServeConfig(StrictConfig):
    """The HTTP service; also the typed arguments of ``serve.app:build_app``."""

    model: StoragePath = "out/demo/model"
    """Model directory."""
    rehearsal: bool = False
    """Serve a model that was trained on stand-ins; its answers mean nothing."""
    layout: Layout | None = None
    """``disaggregated``: ingress, encoder and answerer are deployments that scale apart. ``colocated``: each
    replica of the ingress holds all three in one process. None: ``mats serve`` chooses by the machine's
    cores, a cluster disaggregates."""
    threads: PositiveInt = 1
    """Number of torch threads of each replica."""
    generation: GenerationConfig | None = None
    """Settings of generation; the model's own when absent."""
    ingress: ReplicaConfig = ReplicaConfig(cpus=0.25, autoscaling=AutoscalingConfig(max_replicas=1))
    """Replicas that serve HTTP and decode audio."""
    encoder: EncoderDeploymentConfig = EncoderDeploymentConfig()
    answerer: DeploymentConfig = DeploymentConfig()
    decode_processes: PositiveInt = 2
    """Number of uploads decoded at once by one ingress replica, each in a process of its own."""
    decode_timeout_seconds: PositiveFloat = 20
    """Seconds after which a file is refused and its decoding process killed."""
    decode_memory_bytes: PositiveInt = 4 * 2**30
    """Address space of a decoding process, in bytes."""
    max_upload_bytes: PositiveInt = 25_000_000
    """Largest request body, in bytes."""
    max_audio_seconds: PositiveFloat = 600
    """Longest clip in seconds; it may have as many samples as at 192 kHz."""
    max_question_characters: PositiveInt = 1000
    max_answer_tokens: PositiveInt = 512
    """Largest ``max_tokens`` of a request."""
    max_windows: PositiveInt = 60
    """Largest number of windows of one clip, where a request sets ``window``."""
    max_labels: PositiveInt = 100
    """Largest number of labels of one classification."""
    max_requests_in_flight: PositiveInt = 32
    """Number of requests waiting or being answered per ingress replica; more are refused at once with 429."""
    max_bytes_in_flight: PositiveInt = 1_000_000_000
    """Memory for the data of requests in flight, per ingress replica, in bytes: bodies, their copies, decoded
    samples. A request that does not fit now is refused with 429, one that never fits with 413."""
    max_seconds_in_flight: PositiveFloat = 1800
    """Seconds of audio not yet embedded, in all requests per ingress replica; beyond it 429. A request that
    is alone is never refused for it."""
    max_windows_in_flight: PositiveInt = 120
    """Number of windows not yet answered (an uncut clip is one), in all requests per ingress replica; beyond
    it 429. A request that is alone is never refused for it."""
    request_timeout_seconds: PositiveFloat = 60
    """Seconds from the first byte of a request to the first byte of its response; beyond it 408."""
    stream_timeout_seconds: PositiveFloat = 300
    """Seconds from the first byte of a response to its last; beyond it the stream is ended."""
    retry_seconds: Annotated[float, Field(ge=0)] = 20
    """Seconds that a call waits for a replica that accepts it; a call whose replica dies is repeated once."""
    api_keys_file: str | None = None
    """File with lines ``name:key``, read again when it changes. Without keys no request needs one."""
    api_keys_variable: str = "MATS_API_KEYS"
    """Name of an environment variable of the ingress with more keys, comma-separated."""
    allow_anonymous: bool = False
    """Serve on other than loopback addresses even without keys."""
    requests_per_minute: PositiveInt | None = None
    """Number of requests per minute, key and ingress replica; beyond it 429. No limit unless given."""
    remote_hosts: tuple[str, ...] = ()
    """Each ``host`` or ``host:port`` from which an ``audio_url`` may be fetched; none unless given."""
    page: bool = True
    """Serve the page at /."""
    tracing: TracingConfig | None = None
    """Export of spans; none are recorded unless given."""

    @model_validator(mode="after")
    def colocated_parts_scale_together(self) -> "ServeConfig":
        """Refuse settings that a colocated encoder or answerer would not follow."""
        if self.layout == "colocated" and (own := self._scaled_apart()):
            raise ValueError(
                f"layout=colocated has no replicas of {own} alone: leave {own}.autoscaling out and set "
                "ingress.autoscaling, or layout=disaggregated"
            )
        gpus = self.encoder.gpus + self.answerer.gpus
        if self.layout == "colocated" and gpus > 1:
            raise ValueError(
                f"layout=colocated puts encoder.gpus={self.encoder.gpus:g} and answerer.gpus="
                f"{self.answerer.gpus:g} in one process, which uses one GPU: together they must be at most 1"
            )
        return self

    def with_layout(self, *, cores: int) -> "ServeConfig":
        """Return the configuration with the layout of a service on one machine, if it has none.

        Colocated on fewer than four cores, where three processes would only share them; disaggregated on
        more, on GPUs, and where encoder or answerer have autoscaling of their own.

        Args:
            cores: Number of CPU cores of the machine.
        """
        if self.layout is not None:
            return self
        fits = cores < COLOCATED_BELOW_CORES and self._scaled_apart() is None
        fits = fits and not self.encoder.gpus + self.answerer.gpus
        return self.model_copy(update={"layout": "colocated" if fits else "disaggregated"})

    def _scaled_apart(self) -> str | None:
        """Return the name of a part of the model with autoscaling of its own, None if there is none."""
        parts = {"encoder": self.encoder, "answerer": self.answerer}
        default = AutoscalingConfig()
        return next((name for name, part in parts.items() if part.autoscaling != default), None)
