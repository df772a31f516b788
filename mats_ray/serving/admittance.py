"""Who comes in: keys and rates. Stands before anything of a request's body is read."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from mats_ray.serving.guards import refuse
from mats_ray.serving.keys import KeyRing, RateLimit
from mats_ray.serving.problems import RequestError

ANONYMOUS = "anonymous"
_GUARDED = ("/v1/", "/metrics")


class Admittance:
    """A key for everything that answers; health, the page and the documentation are open.

    Args:
        app: What comes next.
        keys: Those that open.
        rate: How often each may.
    """

    def __init__(self, app: ASGIApp, *, keys: KeyRing, rate: RateLimit) -> None:
        self.app, self._keys, self._rate = app, keys, rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse with 401 or 429, or let through and remember the key's name."""
        if scope["type"] != "http" or not scope["path"].startswith(_GUARDED):
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
