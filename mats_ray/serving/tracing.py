"""Requests and their stages as OpenTelemetry spans: how long, how much, with what end. Never audio or text.

One span per request, child of the caller's (``traceparent``), with a child for each decoding, embedding and
answer. The provider is our own, so spans of Ray, or of an application around us, are not mixed in.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import mats_ray
from mats_ray.config.answer import AnswerOptions
from mats_ray.config.serve import TracingConfig
from mats_ray.errors import ConfigError
from mats_ray.serving.types import Answerer, Decoder, Embedded, Encoder, ModelCard, Told
from mats_ray.types import AudioClip

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer


class Tracing:
    """Spans of one process, sent by one exporter.

    Args:
        config: Which exporter, and for which share of requests.

    Raises:
        ConfigError: OpenTelemetry or the exporter is not installed, or it cannot be made.
    """

    def __init__(self, config: TracingConfig) -> None:
        make = _exporter_of(config.exporter)
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        try:
            exporter = make()
        except Exception as error:
            raise ConfigError(f"serve.tracing.exporter={config.exporter} cannot be made: {error}") from error
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(config.sampling_ratio)),
            resource=Resource.create({"service.name": "mats", "service.version": mats_ray.__version__}),
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer: Tracer = self._provider.get_tracer("mats_ray")

    @contextmanager
    def stage(self, name: str, **attributes: Any) -> "Iterator[Span]":
        """A span of a part of a request. It is not made current, so a generator may yield within it."""
        with ending(self.tracer.start_span(f"mats.{name}")) as span:
            describe(span, attributes)
            yield span

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class TracedDecoder:
    """A decoder whose work is seen."""

    def __init__(self, decoder: Decoder, tracing: Tracing) -> None:
        self._decoder, self._tracing = decoder, tracing

    async def decode(self, data: bytes, *, name: str) -> AudioClip:
        """See ``parts.Decoder``."""
        with self._tracing.stage("decode", **{"mats.bytes": len(data)}) as span:
            clip = await self._decoder.decode(data, name=name)
            describe(span, {"mats.audio_seconds": clip.seconds, "mats.sample_rate": clip.sample_rate})
            return clip

    def close(self) -> None:
        """See ``parts.Decoder``."""
        self._decoder.close()
        self._tracing.close()


class TracedEncoder:
    """An encoder whose work is seen."""

    def __init__(self, encoder: Encoder, tracing: Tracing) -> None:
        self._encoder, self._tracing = encoder, tracing

    async def encode(self, clip: AudioClip) -> Embedded:
        """See ``parts.Encoder``."""
        with self._tracing.stage("encode", **{"mats.audio_seconds": clip.seconds}):
            return await self._encoder.encode(clip)

    async def encode_labels(self, labels: Sequence[str]) -> Embedded:
        """See ``parts.Encoder``."""
        with self._tracing.stage("encode_labels", **{"mats.labels": len(labels)}):
            return await self._encoder.encode_labels(labels)


class TracedAnswerer:
    """An answerer whose work is seen."""

    def __init__(self, answerer: Answerer, tracing: Tracing) -> None:
        self._answerer, self._tracing = answerer, tracing

    async def answer(self, embedded: Embedded, instruction: str, options: AnswerOptions) -> Told:
        """See ``parts.Answerer``."""
        with self._tracing.stage("answer") as span:
            told = await self._answerer.answer(embedded, instruction, options)
            describe(span, _numbers(told))
            return told

    async def stream(
        self, embedded: Embedded, instruction: str, options: AnswerOptions
    ) -> AsyncIterator[ModelCard | str | Told]:
        """See ``parts.Answerer``; an event says when the first piece came."""
        heard = False
        with self._tracing.stage("answer", **{"mats.stream": True}) as span:
            async with aclosing(self._answerer.stream(embedded, instruction, options)) as pieces:  # pyright: ignore[reportArgumentType]
                async for piece in pieces:
                    if isinstance(piece, str) and not heard:
                        heard = True
                        span.add_event("first piece")
                    if isinstance(piece, Told):
                        describe(span, _numbers(piece))
                    yield piece

    async def describe(self) -> ModelCard:
        """See ``parts.Answerer``."""
        return await self._answerer.describe()


def _exporter_of(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        import_module("opentelemetry.sdk.trace")
        return getattr(import_module(module), name)
    except ImportError as error:
        raise ConfigError(
            f"serve.tracing.exporter={path} cannot be imported: {error}; install what holds it, for OTLP "
            "pip install opentelemetry-exporter-otlp-proto-http"
        ) from None
    except AttributeError:
        raise ConfigError(f"serve.tracing.exporter={path}: {module} has no {name!r}") from None


@contextmanager
def ending(span: "Span") -> "Iterator[Span]":
    """End a span, with the kind of an error but not its words: those may quote what was sent."""
    from opentelemetry.trace import Status, StatusCode

    try:
        yield span
    except BaseException as error:
        span.set_attribute("error.type", type(error).__name__)
        if isinstance(error, Exception):
            span.set_status(Status(StatusCode.ERROR))
        raise
    finally:
        span.end()


def describe(span: "Span", attributes: dict[str, Any]) -> None:
    """Set the attributes that are known."""
    for name, value in attributes.items():
        if value is not None:
            span.set_attribute(name, value)


def _numbers(told: Told) -> dict[str, Any]:
    return {
        "mats.completion_tokens": told.answer.num_tokens,
        "mats.prompt_tokens": told.prompt_tokens,
        "mats.finish_reason": told.answer.finish_reason,
        "mats.queue_seconds": told.waited_seconds,
        "mats.batch_size": told.batch_size,
        "mats.model": told.by.id if told.by else None,
    }
