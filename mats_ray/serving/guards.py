"""What stands in front of the routes: request ids, the last resort, admission, deadline, body limit.

Plain ASGI, so that a request can be refused before its body is read, let alone parsed or stored.
"""

import asyncio
import logging
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mats_ray.serving.problems import Problem, RequestError, problem_of
from mats_ray.serving.schemas import ErrorBody

logger = logging.getLogger(__name__)


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """Put a problem into a response."""
    headers = dict(headers or {})
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(ErrorBody.of(problem).model_dump(), problem.status, headers)


async def refuse(error: RequestError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request with an error."""
    scope.setdefault("state", {}).setdefault("facts", {})["error"] = error.code
    await problem_response(problem_of(error))(scope, receive, send)


class RequestId:
    """Every request has an id: the client's, if it is a sensible one, or a new one.

    Args:
        app: What comes next.
        echo: Send it back as X-Request-Id; off where something in front already does.
    """

    def __init__(self, app: ASGIApp, *, echo: bool) -> None:
        self.app = app
        self.echo = echo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the id into ``request.state``."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if 0 < len(asked) <= 128 and asked.isprintable() else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start" and self.echo:
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        return await self.app(scope, receive, send_with_id)


class LastResort:
    """An error nobody foresaw becomes one JSON 500, and its traceback one entry in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Catch everything; once a response has begun it can only be broken off."""
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            logger.exception("request %s failed", scope["state"]["request_id"])
            await problem_response(problem_of(error))(scope, receive, send)


class Admission:
    """At most so many requests at a time; one more is refused at once, before its body is read."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self.app = app
        self.limit = limit
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what asks the model; health checks always pass."""
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


class Deadline:
    """So many seconds until the response begins, so many until it ends.

    An upload that trickles in, or a stream that nobody reads, does not hold a place forever.
    """

    def __init__(self, app: ASGIApp, *, seconds: float, stream_seconds: float) -> None:
        self.app = app
        self.seconds, self.stream_seconds = seconds, stream_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Cancel what takes longer: with 408 before the response has begun, by breaking it off after."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        timer = asyncio.timeout(self.seconds)
        started = False

        async def send_and_set_clock(message: Message) -> None:
            nonlocal started
            if not started:
                started = True
                timer.reschedule(asyncio.get_running_loop().time() + self.stream_seconds)
            await send(message)

        try:
            async with timer:
                return await self.app(scope, receive, send_and_set_clock)
        except TimeoutError:
            if started or not timer.expired():
                raise
            late = RequestError(f"no answer within {self.seconds:g} s", code="timeout")
            return await refuse(late, scope, receive, send)


class BodyLimit:
    """No request body beyond a size: by its Content-Length if it has one, and while it is read."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stop the body at the limit, and whatever the app then says replace by 413."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared) > self.max_bytes:
            return await self._refuse(scope, receive, send)
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            # the app must not see the rest; ending the body here makes it give up in its own way
            return message if read <= self.max_bytes else {"type": "http.disconnect"}

        async def unless_too_large(message: Message) -> None:
            if read <= self.max_bytes:
                await send(message)

        await self.app(scope, counted, unless_too_large)
        return await self._refuse(scope, receive, send) if read > self.max_bytes else None

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"the request body is larger than {self.max_bytes} bytes"
        await refuse(RequestError(message, code="too_large"), scope, receive, send)
