"""A chat model the user runs: one request per label, its answer parsed, failures in one line."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mats_ray.data.prepare.label_descriptions import Endpoint, describe, sentences_in
from mats_ray.data.prepare.triplet_builder import read_descriptions
from mats_ray.errors import ConfigError, DataError

ANSWER = (
    'Here are sentences:\n1. A dog barks.\n2) A dog barks.\n- "A hound howls at the moon."\n\n' + "x " * 40
)


@pytest.fixture
def chat():
    """An endpoint that records its requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.requests.append((self.path, self.headers.get("Authorization"), body))
            content = json.dumps({"choices": [{"message": {"content": self.server.answer}}]}).encode()
            self.send_response(self.server.status)
            self.end_headers()
            self.wfile.write(content if self.server.status == 200 else b"{}")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.status, server.answer = [], 200, ANSWER
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def endpoint(chat, **more):
    return Endpoint(f"http://127.0.0.1:{chat.server_port}/v1", "llama", **more)


def test_every_label_is_requested_once_and_the_file_serves_prepare(chat, tmp_path):
    out = tmp_path / "own.jsonl"

    assert describe(["Dog_bark", "rain", "Dog_bark"], endpoint(chat, api_key="k"), out, count=50) == 2
    assert describe(["Dog_bark", "siren"], endpoint(chat), out, count=50) == 1

    assert [path for path, _, _ in chat.requests] == ["/v1/chat/completions"] * 3
    assert chat.requests[0][1] == "Bearer k"
    assert chat.requests[0][2]["model"] == "llama"
    assert "Dog bark" in chat.requests[0][2]["messages"][0]["content"]
    texts = ("A dog barks.", "A hound howls at the moon.")
    assert read_descriptions(str(out)) == {"dog bark": texts, "rain": texts, "siren": texts}


def test_text_around_the_list_is_left_out():
    assert sentences_in(ANSWER) == ["A dog barks.", "A hound howls at the moon."]


def test_an_error_is_one_line_and_earlier_descriptions_stay(chat, tmp_path):
    out = tmp_path / "own.jsonl"
    describe(["rain"], endpoint(chat), out, count=50)

    chat.answer = ""
    with pytest.raises(DataError, match="llama gave no sentence for the label 'dog'"):
        describe(["dog"], endpoint(chat), out, count=50)
    chat.status = 500
    with pytest.raises(DataError, match="/v1/chat/completions does not answer: HTTP Error 500"):
        describe(["dog"], endpoint(chat), out, count=50)
    assert list(read_descriptions(str(out))) == ["rain"]


def test_other_protocols_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="must start with http"):
        Endpoint("file:///etc/passwd", "x")
    (tmp_path / "x.jsonl").write_text("nope")
    with pytest.raises(DataError, match=r"x\.jsonl is no file of descriptions"):
        describe(["a"], Endpoint("http://localhost:1", "x"), tmp_path / "x.jsonl", count=50)
