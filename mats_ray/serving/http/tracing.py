"""A span for each request; its stages are spans of the service."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mats_ray.serving.http.middleware import RouteSet, route_of
from mats_ray.serving.tracing import Span, Tracing

_UNTRACED = RouteSet("/health", "/readyz", "/metrics")
_FACTS = ("audio_seconds", "prompt_tokens", "completion_tokens", "error")
"""Facts of the access log that a span repeats; the key's name is not among them."""


class RequestSpans:
    """Traces every request but those of health checks and monitors.

    Args:
        app: The next layer.
        tracing: Sends the spans.
    """

    def __init__(self, app: ASGIApp, *, tracing: Tracing) -> None:
        self.app, self._tracing = app, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Trace a request from its first byte to its last."""
        if scope["type"] != "http" or _UNTRACED.matches(scope):
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with self._tracing.request(scope["method"], headers) as span:

            async def record_status(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set({"http.response.status_code": message["status"]})
                await send(message)

            try:
                return await self.app(scope, receive, record_status)
            finally:
                _describe(span, scope)


def _describe(span: Span, scope: Scope) -> None:
    state, route = scope.get("state", {}), route_of(scope)
    facts = state.get("facts", {})
    span.rename(f"{scope['method']} {route}" if route else scope["method"])
    span.set({"http.request.method": scope["method"], "http.route": route})
    span.set({f"mats.{name}": facts.get(name) for name in _FACTS})
    span.set({"mats.request_id": state.get("request_id")})
