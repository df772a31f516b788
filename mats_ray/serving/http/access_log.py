"""The access log: one line of JSON per request, and metrics. Never audio, text or keys."""

import json
import logging
import sys
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mats_ray.serving.http.middleware import route_of
from mats_ray.serving.metrics import Metrics

logger = logging.getLogger("mats_ray.access")
_QUIET = frozenset({"/health", "/readyz", "/metrics"})
"""Requested every few seconds by machines: logged only when they fail."""


class AccessLog:
    """Logs and counts every request.

    Handlers add fields to its line in ``request.state.facts``, a dict.

    Args:
        app: The next layer.
        metrics: Counts requests.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app, self._metrics = app, metrics
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Measure a request from its first byte to its last."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started, status = time.perf_counter(), 499  # nginx's status for a client that has disconnected
        facts: dict[str, Any] = {}
        scope.setdefault("state", {}).update(facts=facts, started=started)

        async def record_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._count(+1)
        try:
            return await self.app(scope, receive, record_status)
        finally:
            self._count(-1)
            self._log(scope, status, time.perf_counter() - started, facts)

    def _count(self, change: int) -> None:
        self._in_flight += change
        self._metrics.record("mats_requests_in_flight", self._in_flight)

    def _log(self, scope: Scope, status: int, seconds: float, facts: dict[str, Any]) -> None:
        route = route_of(scope) or "unknown"
        self._metrics.record("mats_requests_total", route=route, status=str(status))
        self._metrics.record("mats_request_seconds", seconds, route=route)
        if code := facts.get("error"):
            self._metrics.record("mats_rejected_total", reason=code)
        line = {
            "request_id": scope["state"].get("request_id"),
            "method": scope["method"],
            "route": route,
            "status": status,
            "seconds": round(seconds, 4),
            **facts,
        }
        if status >= 400 or route not in _QUIET:
            logger.info("%s", json.dumps(line))


class JSONLines(logging.Formatter):
    """Every record as one line of JSON; one that is JSON already is not wrapped again."""

    def format(self, record: logging.LogRecord) -> str:
        """Add time, level and logger."""
        message = record.getMessage()
        fields = json.loads(message) if record.name == logger.name else {"message": message}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        head = {"time": f"{stamp}.{int(record.msecs):03d}Z", "level": record.levelname, "logger": record.name}
        return json.dumps(head | fields)


def log_as_json() -> None:
    """Send this package's log to stderr as lines of JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines())
    package = logging.getLogger("mats_ray")
    package.handlers = [handler]
    package.setLevel(logging.INFO)
    package.propagate = False
