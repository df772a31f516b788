"""The shipped service with another model and port; errors of the service end in one line."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from mats_ray.config.serve import ServeConfig
from mats_ray.errors import RehearsalError
from mats_ray.rehearsal.service import ask_service, serve_config

SHIPPED = Path("serve/config.yaml")


@pytest.mark.parametrize("gpus", [0, 0.5])
def test_only_model_port_rehearsal_gpus_and_time_limits_differ_from_the_shipped_file(tmp_path, gpus):
    rehearsed = ServeConfig.model_validate(
        {"request_timeout_seconds": 160, "encoder": {"gpus": gpus}, "answerer": {"gpus": gpus}}
    )
    service = serve_config(SHIPPED, tmp_path / "serve.yaml", model="out/m", rehearsed=rehearsed)

    shipped, own = yaml.safe_load(SHIPPED.read_text()), yaml.safe_load(service.path.read_text())
    arguments = own["applications"][0]["args"]
    assert ServeConfig.model_validate(arguments).rehearsal
    changed = {"model": "out/m", "rehearsal": True, "request_timeout_seconds": 160}
    shipped["applications"][0]["args"] |= changed
    for part in ("encoder", "answerer"):
        shipped["applications"][0]["args"][part]["gpus"] = gpus
    shipped["http_options"]["request_timeout_s"] = 500
    shipped["http_options"]["port"] = own["http_options"]["port"]
    assert own == shipped
    assert service.url == f"http://127.0.0.1:{own['http_options']['port']}"


@pytest.fixture
def server():
    """A service that is ready and answers with the code it is given."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer(200, {})

        def do_POST(self):
            self.server.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(self.server.code, self.server.answer)

        def answer(self, code, tree):
            body = json.dumps(tree).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args): ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def clip(tmp_path):
    (tmp_path / "clip.wav").write_bytes(b"RIFF")
    return tmp_path / "clip.wav"


def ask(server, clip, alive=True):
    url = f"http://127.0.0.1:{server.server_port}"
    return ask_service(url, clip, "Is there a dog?", alive=lambda: alive)


def test_the_question_and_the_clip_are_sent(server, clip):
    server.code, server.answer = 200, {"choices": [{"message": {"content": "yes"}}]}

    assert ask(server, clip) == "yes"

    audio, text = server.body["messages"][0]["content"]
    assert audio["input_audio"] == {"data": "UklGRg==", "format": "wav"}
    assert text["text"] == "Is there a dog?"


def test_an_error_of_the_service_is_named(server, clip):
    server.code, server.answer = 422, {"error": {"message": "no"}}

    with pytest.raises(RehearsalError, match=r'the service answered 422: {"error"'):
        ask(server, clip)


def test_a_service_that_ended_is_not_awaited(server, clip):
    with pytest.raises(RehearsalError, match="the service ended before it was ready"):
        ask(server, clip, alive=False)
