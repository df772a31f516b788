"""A span for each request, child of the caller's (``traceparent``)."""

from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mats_ray.serving.http.middleware import RouteSet, route_of
from mats_ray.serving.tracing import Tracing, describe, ending

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_UNTRACED = RouteSet("/health", "/readyz", "/metrics")
_FACTS = ("audio_seconds", "prompt_tokens", "completion_tokens", "error")
"""What of the log's facts a span may say; who asked is not among them."""


class RequestSpans:
    """A span for every request but those of machines that look after us.

    Args:
        app: What comes next.
        tracing: Where spans go.
    """

    def __init__(self, app: ASGIApp, *, tracing: Tracing) -> None:
        self.app, self._tracing = app, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Watch a request from its first byte to its last."""
        if scope["type"] != "http" or _UNTRACED.matches(scope):
            return await self.app(scope, receive, send)
        from opentelemetry.trace import SpanKind, use_span
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        caller = TraceContextTextMapPropagator().extract(headers)
        span = self._tracing.tracer.start_span(scope["method"], context=caller, kind=SpanKind.SERVER)

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.set_attribute("http.response.status_code", message["status"])
            await send(message)

        with ending(span), use_span(span, record_exception=False, set_status_on_exception=False):
            try:
                return await self.app(scope, receive, watch)
            finally:
                self._finish(span, scope)

    def _finish(self, span: "Span", scope: Scope) -> None:
        state, route = scope.get("state", {}), route_of(scope)
        span.update_name(f"{scope['method']} {route}" if route else scope["method"])
        describe(span, {"http.request.method": scope["method"], "http.route": route})
        facts = state.get("facts", {})
        describe(span, {f"mats.{name}": facts.get(name) for name in _FACTS})
        describe(span, {"mats.request_id": state.get("request_id")})
