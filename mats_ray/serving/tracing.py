"""OpenTelemetry spans of requests and their stages: durations, sizes, errors. Never audio or text.

One span per request, child of the caller's (``traceparent``), with a child for each decoding, embedding and
answer. The provider is our own, so that spans of Ray, or of an application around us, are not mixed in.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mats_ray.config.serve import TracingConfig
from mats_ray.errors import ConfigError
from mats_ray.version import __version__

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider


class Span:
    """One span; without a span of OpenTelemetry it records nothing."""

    def __init__(self, span: "trace.Span | None" = None) -> None:
        self._span = span

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes; those that are None are left out."""
        if self._span is not None:
            for name, value in attributes.items():
                if value is not None:
                    self._span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        """Replace the name given at the start."""
        if self._span is not None:
            self._span.update_name(name)

    def add_event(self, name: str) -> None:
        """Record that something happened now."""
        if self._span is not None:
            self._span.add_event(name)


class Tracing:
    """Spans of one process, sent by one exporter.

    Args:
        config: The exporter, and the share of requests that are traced; None: nothing is.

    Raises:
        ConfigError: OpenTelemetry or the exporter is not installed, or it cannot be made.
    """

    def __init__(self, config: TracingConfig | None = None) -> None:
        self._provider = None if config is None else _provider(config)
        self._tracer = None if self._provider is None else self._provider.get_tracer("mats_ray")

    @contextmanager
    def stage(self, name: str, attributes: Mapping[str, Any]) -> Iterator[Span]:
        """Open a span of a part of a request. It is not made current, so a generator may yield within it."""
        if self._tracer is None:
            yield Span()
            return
        with _ending(self._tracer.start_span(f"mats.{name}")) as span:
            span.set(attributes)
            yield span

    @contextmanager
    def request(self, name: str, headers: Mapping[str, str]) -> Iterator[Span]:
        """Open the current span of a request, child of the one that its headers name."""
        if self._tracer is None:
            yield Span()
            return
        from opentelemetry.trace import SpanKind, use_span
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        caller = TraceContextTextMapPropagator().extract(headers)
        current = self._tracer.start_span(name, context=caller, kind=SpanKind.SERVER)
        with (
            _ending(current) as span,
            use_span(current, record_exception=False, set_status_on_exception=False),
        ):
            yield span

    def close(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            self._provider.shutdown()


def _provider(config: TracingConfig) -> "TracerProvider":
    make = _exporter_of(config.exporter)
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    try:
        exporter = make()
    except Exception as error:
        raise ConfigError(f"serve.tracing.exporter={config.exporter} cannot be made: {error}") from error
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(config.sampling_ratio)),
        resource=Resource.create({"service.name": "mats", "service.version": __version__}),
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


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
def _ending(span: "trace.Span") -> Iterator[Span]:
    """End a span, with the kind of an error but not its text, which may quote the request."""
    from opentelemetry.trace import Status, StatusCode

    try:
        yield Span(span)
    except BaseException as error:
        span.set_attribute("error.type", type(error).__name__)
        if isinstance(error, Exception):
            span.set_status(Status(StatusCode.ERROR))
        raise
    finally:
        span.end()
