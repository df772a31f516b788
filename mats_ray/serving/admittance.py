"""Who comes in: keys and rates. Stands before anything of a request's body is read."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from mats_ray.serving.guards import refuse
from mats_ray.serving.keys import KeyRing, RateLimit
from mats_ray.serving.paths import RouteSet
from mats_ray.serving.problems import RequestError

ANONYMOUS = "anonymous"
OPEN = RouteSet("/health", "/readyz", "/", "/docs", "/openapi.json", "/page/{name:path}")
"""The routes that need no key. Every other request does, also one that no route takes."""


class Admittance:
    """A key for everything but what ``OPEN`` names: health, the page and the documentation.

    Args:
        app: What comes next.
        keys: Those that open.
        rate: How often each may.
    """

    def __init__(self, app: ASGIApp, *, keys: KeyRing, rate: RateLimit) -> None:
        self.app, self._keys, self._rate = app, keys, rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse with 401 or 429, or let through and remember the key's name."""
        if scope["type"] == "websocket":  # no route speaks it
            return await WebSocketClose()(scope, receive, send)
        if scope["type"] == "lifespan" or OPEN.matches(scope):
            return await self.app(scope, receive, send)
        name = self._name_of(scope)
        if name is None:
            error = RequestError("send a valid key: Authorization: Bearer ...", code="unauthorized")
            return await refuse(error, scope, receive, send)
        scope["state"]["facts"]["key"] = name
        if scope["method"] == "POST" and (seconds := self._rate.wait_seconds(name)):
            error = RequestError("this key has used up its rate", code="rate_limited", retry_after=seconds)
            return await refuse(error, scope, receive, send)
        return await self.app(scope, receive, send)

    def _name_of(self, scope: Scope) -> str | None:
        if self._keys.is_open:
            return ANONYMOUS
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        return self._keys.name_of(key.strip()) if scheme.lower() == "bearer" and key.strip() else None
