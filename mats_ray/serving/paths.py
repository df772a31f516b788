"""Which route a request is for, whatever ``root_path`` or ``route_prefix`` the service stands under.

``scope["path"]`` holds the prefix, so it is never compared with anything: routes are matched as the router
matches them.
"""

from starlette.responses import RedirectResponse
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send


class RouteSet:
    """A few routes by their patterns.

    Args:
        patterns: As the routes are declared, ``/page/{name:path}``.
    """

    def __init__(self, *patterns: str) -> None:
        self._routes = [Route(pattern, endpoint=_nothing) for pattern in patterns]

    def matches(self, scope: Scope) -> bool:
        """Whether an HTTP request is for one of them, by whatever method; never for a websocket."""
        return any(route.matches(scope)[0] is not Match.NONE for route in self._routes)


def route_of(scope: Scope) -> str | None:
    """Return the pattern of the route that took a request, so that paths of strangers are no labels."""
    return getattr(scope.get("route"), "path", None)


class PrefixSlash:
    """Redirects a request for the prefix itself to the page below it: the page's links are relative."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer ``GET /prefix`` with ``./prefix/``, which holds behind any further proxy."""
        prefix = scope.get("root_path", "")
        if scope["type"] == "http" and prefix and scope["path"] == prefix:
            redirect = RedirectResponse(f"./{prefix.rpartition('/')[2]}/")
            return await redirect(scope, receive, send)
        return await self.app(scope, receive, send)


async def _nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Stand in for an endpoint: these routes are only matched."""
