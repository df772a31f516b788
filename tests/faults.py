"""A storage that fails: a proxy before an S3 server that spoils some of the answers."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import unquote

import httpx2
import pytest

Fault = str
"""``500``, ``503``, ``expired``, ``reset``, ``timeout`` (no answer), ``truncated`` (half a body), ``short``
(as if whole)."""

_ERRORS = {
    "500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "503": (503, "SlowDown", "Please reduce your request rate."),
    "expired": (400, "ExpiredToken", "The provided token has expired."),
}


@contextlib.contextmanager
def faults(endpoint: str, choose: Callable[[str, int], Fault | None]) -> Iterator[Counter[str]]:
    """Point the AWS environment at a proxy; ``choose(key, attempt)`` names what goes wrong with a GET or PUT.

    Yields the attempts per key.
    """
    attempts: Counter[str] = Counter()
    handler = type("Handler", (_Proxy,), {"endpoint": endpoint, "choose": choose, "attempts": attempts})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
            yield attempts
    finally:
        server.shutdown()
        server.server_close()


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    endpoint: ClassVar[str]
    choose: ClassVar[Callable[[str, int], Fault | None]]
    attempts: ClassVar[Counter[str]]

    def do_GET(self) -> None:
        key = unquote(self.path.partition("?")[0])
        type(self).attempts[key] += 1
        fault = type(self).__dict__["choose"](key, self.attempts[key])
        if fault in _ERRORS:
            status, code, words = _ERRORS[fault]
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = f"<Error><Code>{code}</Code><Message>{words}</Message></Error>".encode()
            self._answer(status, {"Content-Type": "application/xml"}, body)
        elif fault == "timeout":
            self.rfile.read(1)  # comes back when the other side has had enough
            self.close_connection = True
        elif fault == "reset":
            self.close_connection = True
            self.connection.close()
        else:
            self._pass_on(fault)

    do_PUT = do_GET

    def do_any(self) -> None:
        self._pass_on(None)

    do_HEAD = do_POST = do_DELETE = do_any

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def _pass_on(self, fault: Fault | None) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        answer = httpx2.request(self.command, f"{self.endpoint}{self.path}", headers=headers, content=body)
        kept = {
            name: value
            for name, value in answer.headers.items()
            if name.lower() not in {"connection", "content-length", "transfer-encoding", "date", "server"}
        }
        length = answer.headers.get("content-length") if self.command == "HEAD" else None
        half = answer.content[: len(answer.content) // 2]
        if fault == "truncated":
            self._answer(answer.status_code, kept, half, str(len(answer.content)))
            self.close_connection = True
        else:
            self._answer(answer.status_code, kept, half if fault == "short" else answer.content, length)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, length: str | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
