"""Section ``serve``: the HTTP service and its deployments."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from mats_ray.config.base import StrictConfig
from mats_ray.config.generation import GenerationConfig


class AutoscalingConfig(StrictConfig):
    """Replicas of one Serve deployment."""

    min_replicas: Annotated[int, Field(ge=0)] = 1
    max_replicas: PositiveInt = 2
    target_ongoing_requests: PositiveFloat = 16
    """Of one replica, on the average of the last half minute; with more there is another one."""
    upscale_delay_seconds: Annotated[float, Field(ge=0)] = 10
    """Load must have been high for so long."""
    downscale_delay_seconds: Annotated[float, Field(ge=0)] = 600
    """Load must have been low for so long."""

    @model_validator(mode="after")
    def bounds_in_order(self) -> "AutoscalingConfig":
        """Serve would find this only while deploying."""
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas={self.min_replicas} is more than max_replicas={self.max_replicas}"
            )
        return self


class ReplicaConfig(StrictConfig):
    """How many replicas one Serve deployment has, and how big each is."""

    autoscaling: AutoscalingConfig = AutoscalingConfig()
    cpus: PositiveFloat = 0.5
    gpus: Annotated[float, Field(ge=0)] = 0


class DeploymentConfig(ReplicaConfig):
    """One Serve deployment that answers in batches."""

    max_batch_size: PositiveInt = 16


class EncoderDeploymentConfig(DeploymentConfig):
    """The encoder, whose batches are computed whole."""

    max_batch_seconds: PositiveFloat = 160
    """Seconds of audio in one batch; a longer sound is a batch of its own."""
    batch_wait_seconds: Annotated[float, Field(ge=0)] = 0
    """An idle replica waits this long for company; while it is busy the next batch gathers anyway."""


class TracingConfig(StrictConfig):
    """OpenTelemetry spans of requests and their stages."""

    exporter: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    """``module:name`` of a span exporter's class, made without arguments: ``OTEL_*`` variables set it up."""
    sampling_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the requests whose caller has not decided it (``traceparent``)."""


class ServeConfig(StrictConfig):
    """The HTTP service; also the typed arguments of ``serve.app:build_app``."""

    model: str = "out/demo/model"
    """Model directory."""
    threads: PositiveInt = 1
    """torch threads of each replica."""
    generation: GenerationConfig | None = None
    """Decoding; the model's own when absent."""
    ingress: ReplicaConfig = ReplicaConfig(cpus=0.25, autoscaling=AutoscalingConfig(max_replicas=1))
    """Speaks HTTP and decodes audio."""
    encoder: EncoderDeploymentConfig = EncoderDeploymentConfig()
    answerer: DeploymentConfig = DeploymentConfig()
    decode_processes: PositiveInt = 2
    """Uploads decoded at once by one ingress replica, each in a process of its own."""
    decode_timeout_seconds: PositiveFloat = 20
    """A file that takes longer is refused, and its process killed."""
    decode_memory_bytes: PositiveInt = 4 * 2**30
    """Address space of such a process."""
    max_upload_bytes: PositiveInt = 25_000_000
    """Of a whole request body."""
    max_audio_seconds: PositiveFloat = 600
    """Seconds of one sound; it may have as many samples as at 192 kHz."""
    max_question_characters: PositiveInt = 1000
    max_answer_tokens: PositiveInt = 512
    """The most that ``max_tokens`` of a request may ask for."""
    max_windows: PositiveInt = 60
    """Of one sound, where a request asks for windows."""
    max_labels: PositiveInt = 100
    """Of one classification."""
    max_requests_in_flight: PositiveInt = 32
    """Requests waiting or being answered per ingress replica; one more is refused at once with 429."""
    max_bytes_in_flight: PositiveInt = 1_000_000_000
    """Memory for what requests in flight bring, per ingress replica: bodies, their copies, decoded samples.
    What does not fit now is refused with 429, what never fits with 413."""
    max_seconds_in_flight: PositiveFloat = 1800
    """Seconds of audio not yet embedded, in all requests per ingress replica; then 429. One request alone is
    never refused for it."""
    max_windows_in_flight: PositiveInt = 120
    """Windows not yet answered (a sound as a whole is one), in all requests per ingress replica; then 429.
    One request alone is never refused for it."""
    request_timeout_seconds: PositiveFloat = 60
    """From the first byte of a request to the first of its answer; then 408."""
    stream_timeout_seconds: PositiveFloat = 300
    """From the first byte of an answer to its last; then it is broken off."""
    retry_seconds: Annotated[float, Field(ge=0)] = 20
    """A call waits so long for a replica that takes it; one whose replica dies is repeated once."""
    api_keys_file: str | None = None
    """Lines of ``name:key``, read again when it changes. Without keys everybody may ask."""
    api_keys_variable: str = "MATS_API_KEYS"
    """Environment variable of the ingress with more keys, comma-separated."""
    allow_anonymous: bool = False
    """Without keys, answer on other than loopback addresses all the same."""
    requests_per_minute: PositiveInt | None = None
    """Per key and ingress replica; then 429. No limit unless given."""
    remote_hosts: tuple[str, ...] = ()
    """``host`` or ``host:port`` from which an ``audio_url`` may be fetched; none unless given."""
    page: bool = True
    """Show the page at /."""
    tracing: TracingConfig | None = None
    """Where spans go; none are made unless given."""
