"""A storage that fails: a proxy before an S3 server that spoils some of the answers."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import unquote

import httpx2
import pytest

Fault = str
"""One of ``_ERRORS``, ``reset``, ``timeout`` (no answer), ``truncated`` (half a body) or ``short`` (half, as
if it were whole)."""

_ERRORS = {
    "500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "503": (503, "SlowDown", "Please reduce your request rate."),
    "denied": (403, "AccessDenied", "Access Denied"),
    "expired": (400, "ExpiredToken", "The provided token has expired."),
}


@contextlib.contextmanager
def faults(
    endpoint: str, choose: Callable[[str, int], Fault | None], *, methods: Collection[str] = ("GET",)
) -> Iterator[Counter[str]]:
    """Point the AWS environment at a proxy; ``choose(key, attempt)`` names the fault of a request.

    Yields the attempts per key.
    """
    attempts: Counter[str] = Counter()
    settings = {"endpoint": endpoint, "choose": choose, "attempts": attempts, "methods": methods}
    handler = type("Handler", (_Proxy,), settings)
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
    methods: ClassVar[Collection[str]]

    def do_any(self) -> None:
        if self.command not in self.methods:
            self._pass_on(None)
            return
        key = unquote(self.path.partition("?")[0])
        type(self).attempts[key] += 1
        fault = type(self).__dict__["choose"](key, self.attempts[key])
        if fault in _ERRORS:
            self._body()  # or what comes next on the connection would be read as a request
            status, code, message = _ERRORS[fault]
            body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            self._answer(status, {"Content-Type": "application/xml"}, body)
        elif fault == "timeout":
            self.rfile.read(1)  # returns when the other side closes the connection
            self.close_connection = True
        elif fault == "reset":
            self.close_connection = True
            self.connection.close()
        else:
            self._pass_on(fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_any

    def log_message(self, *args: object) -> None:
        """Log nothing."""

    def _pass_on(self, fault: Fault | None) -> None:
        body = self._body()
        hop_by_hop = {"connection", "transfer-encoding"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in hop_by_hop}
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

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, length: str | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
