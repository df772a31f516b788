"""A small server of the OpenAI protocol on a port of this machine: embeddings and chat, as scripted."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Tree = dict[str, Any]


@dataclass
class OpenAIServer:
    """What it received, and where it is."""

    url: str
    requests: list[Tree] = field(default_factory=list)


@contextmanager
def openai_server(reply: Callable[[Tree], Tree | int]) -> Iterator[OpenAIServer]:
    """Serve POST requests on a free port.

    Args:
        reply: Body of a request to body of the response, or to the status of a refusal.
    """
    server = OpenAIServer("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.requests.append(body)
            found = reply(body)
            status, tree = (
                (found, {"error": {"message": "refused"}}) if isinstance(found, int) else (200, found)
            )
            data = json.dumps(tree).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}/v1"
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def chat(text: str) -> Tree:
    """Return the body of a chat completion."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


def embeddings(rows: list[list[float]]) -> Tree:
    """Return the body of a response with embeddings."""
    data = [{"object": "embedding", "index": n, "embedding": row} for n, row in enumerate(rows)]
    return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}
