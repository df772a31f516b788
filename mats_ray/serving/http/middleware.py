"""Layers in front of the routes: request ids, unexpected errors, limits on concurrency, time and body size.

Plain ASGI, so that a request can be refused before its body is read.
"""

import asyncio
import logging
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mats_ray.serving.budgets import Budget, Share, memory_share
from mats_ray.serving.errors import RequestError
from mats_ray.serving.http.errors import problem_of, problem_response, refuse

logger = logging.getLogger(__name__)


class RouteSet:
    """Matches requests with route patterns, under any ``root_path``: they are matched as the router does it.

    ``scope["path"]`` holds the prefix, so it is never compared with anything.

    Args:
        patterns: As routes are declared, ``/page/{name:path}``.
    """

    def __init__(self, *patterns: str) -> None:
        self._routes = [Route(pattern, endpoint=_nothing) for pattern in patterns]

    def matches(self, scope: Scope) -> bool:
        """Whether an HTTP request, of any method, is for one of them; a websocket never is."""
        return any(route.matches(scope)[0] is not Match.NONE for route in self._routes)


def route_of(scope: Scope) -> str | None:
    """Return the pattern of the route of a request: unlike its path, fit as a metric's label."""
    return getattr(scope.get("route"), "path", None)


class PrefixRedirect:
    """Redirects a request for the prefix itself to the page below it, whose links are relative."""

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
    """Endpoint of routes that are only matched."""


class RequestId:
    """Gives every request an id: the client's, if it is printable and short, or a new one.

    Args:
        app: The next layer.
        echo: Send it back as X-Request-Id; off where a proxy already does.
    """

    def __init__(self, app: ASGIApp, *, echo: bool) -> None:
        self.app = app
        self.echo = echo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the id into ``request.state``."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if 0 < len(given) <= 128 and given.isprintable() else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start" and self.echo:
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        return await self.app(scope, receive, send_with_id)


class UnexpectedErrors:
    """Turns an unexpected error into one JSON 500, and its traceback into one entry in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Catch everything; a response that has started can only be broken off."""
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            logger.exception("request %s failed", scope["state"]["request_id"])
            await problem_response(problem_of(error))(scope, receive, send)


class ConcurrencyLimit:
    """Limits the number of requests in flight; one more is refused at once, before its body is read."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self.app = app
        self.limit = limit
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count requests for the model; health checks always pass."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        if self.in_flight >= self.limit:
            full = RequestError(f"{self.limit} requests are in flight already", code="overloaded")
            return await refuse(full, scope, receive, send)
        self.in_flight += 1
        try:
            return await self.app(scope, receive, send)
        finally:
            self.in_flight -= 1


class Timeout:
    """Limits the seconds until the response starts, and from then until it ends.

    So a slow upload, or a stream that its client does not read, ends.
    """

    def __init__(self, app: ASGIApp, *, seconds: float, stream_seconds: float) -> None:
        self.app = app
        self.seconds, self.stream_seconds = seconds, stream_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Cancel a slow request: with 408 before the response has started, then by breaking it off."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        timer = asyncio.timeout(self.seconds)
        started = False

        async def send_and_reset_timer(message: Message) -> None:
            nonlocal started
            if not started:
                started = True
                timer.reschedule(asyncio.get_running_loop().time() + self.stream_seconds)
            await send(message)

        try:
            async with timer:
                return await self.app(scope, receive, send_and_reset_timer)
        except TimeoutError:
            if started or not timer.expired():
                raise
            late = RequestError(f"no answer within {self.seconds:g} s", code="timeout")
            return await refuse(late, scope, receive, send)


class BodyLimit:
    """Limits the size of each request body, and the memory for all of them.

    A body is checked by its Content-Length if it has one, and while it is read; memory for it, and for the
    copies that are made of it, is held from the arrival of each byte to the end of the request.

    Args:
        app: The next layer.
        max_bytes: Largest body.
        memory: Budget of all requests in flight; decoded samples count as well.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, memory: Budget) -> None:
        self.app = app
        self.max_bytes, self.memory = max_bytes, memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stop the body at a limit, and replace the app's response by 413 or 429."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        refusal: RequestError | None = None

        async def counted() -> Message:
            nonlocal refusal
            message = await receive()
            try:
                body.add(message.get("body", b""))
            except RequestError as error:
                refusal = error
                # hides the rest of the body: the app stops as it does when a client disconnects
                return {"type": "http.disconnect"}
            return message

        async def unless_refused(message: Message) -> None:
            if refusal is None:
                await send(message)

        with memory_share(self.memory) as share:
            body = _Body(Headers(scope=scope), self.max_bytes, share)
            try:
                body.check_declared()
            except RequestError as error:
                return await refuse(error, scope, receive, send)
            await self.app(scope, counted, unless_refused)
        return await refuse(refusal, scope, receive, send) if refusal is not None else None


class _Body:
    """A body as it arrives, and the memory it needs."""

    def __init__(self, headers: Headers, max_bytes: int, share: Share) -> None:
        self._headers, self._max_bytes, self._share = headers, max_bytes, share
        self._is_json = "json" in headers.get("content-type", "").lower()
        self._bytes = self._held = 0
        self._is_plain, self._last = True, b""

    def check_declared(self) -> None:
        """Check the Content-Length.

        Raises:
            RequestError: It is too large.
        """
        declared = self._headers.get("content-length", "0")
        if declared.isdecimal():
            self._check_size(int(declared[:20]))  # Python refuses to read thousands of digits

    def add(self, chunk: bytes) -> None:
        """Count what has arrived.

        Raises:
            RequestError: It is too much, or there is no memory for it.
        """
        self._bytes += len(chunk)
        self._check_size(self._bytes)
        if self._is_json:
            self._look_into(chunk)
        needed = self._bytes * (_COPIES if self._is_plain else _COPIES_WIDE)
        self._share.acquire(needed - self._held)
        self._held = needed

    def _look_into(self, chunk: bytes) -> None:
        is_wide = not chunk.isascii() or b"\0" in chunk or b"\\u" in self._last + chunk
        self._is_plain, self._last = self._is_plain and not is_wide, chunk[-1:]

    def _check_size(self, num_bytes: int) -> None:
        if num_bytes > self._max_bytes:
            message = f"the request body is larger than {self._max_bytes} bytes"
            raise RequestError(message, code="too_large")
        self._share.check_fits(_COPIES * num_bytes)


_COPIES = 7
"""Bytes of memory for each byte of a body while it is parsed."""
_COPIES_WIDE = 11
"""The same for JSON beyond ASCII: one wide character makes its whole text four bytes a character."""
