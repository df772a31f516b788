"""Limits hold before a body is read, while it is read, and while an answer is computed."""

import base64
import json
import threading
import tracemalloc

import anyio
import pytest

from mats_ray.config.serve import ServeConfig
from mats_ray.serving.budgets import Budget, current_memory
from mats_ray.serving.http.app import make_app
from mats_ray.serving.http.middleware import BodyLimit, ConcurrencyLimit, RequestId, Timeout, UnexpectedErrors
from mats_ray.serving.service import AudioService
from tests.unit.serving.fakes import FakeAnswerer, FakeDecoder, FakeEncoder

CAPTIONS, QUESTIONS, CHAT = "/v1/audio/captions", "/v1/audio/questions", "/v1/chat/completions"
CLIP = {"file": ("dog.wav", b"seconds:2")}
MEMORY = Budget(10**6, "bytes")


def test_a_declared_length_over_the_limit_is_refused_unread():
    app = App()

    sent = drive(
        BodyLimit(app, max_bytes=10, memory=MEMORY), [b"x" * 11], headers=[(b"content-length", b"11")]
    )

    assert sent[0]["status"] == 413
    assert app.read == []


def test_a_body_longer_than_declared_is_cut_off_while_it_is_read():
    app = App()

    sent = drive(BodyLimit(app, max_bytes=10, memory=MEMORY), [b"x" * 6, b"y" * 6, b"z" * 6])

    assert [message["status"] for message in sent if "status" in message] == [413]
    assert app.read == [b"x" * 6]


def test_a_body_of_just_the_limit_passes():
    app = App()

    sent = drive(BodyLimit(app, max_bytes=10, memory=MEMORY), [b"x" * 5, b"y" * 5])

    assert sent[0]["status"] == 200
    assert app.read == [b"x" * 5, b"y" * 5]


@pytest.mark.parametrize("declare", [True, False], ids=["content-length", "chunked"])
def test_too_large_an_upload_is_413_in_json(make_client, declare):
    client = make_client(max_upload_bytes=1000)
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 2000
    content = form if declare else iter([form[:500], form[500:]])

    response = client.post(
        CAPTIONS, content=content, headers={"content-type": "multipart/form-data; boundary=b"}
    )

    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_large"


def test_a_body_that_could_never_be_held_is_refused_unread():
    app = App()

    sent = drive(
        BodyLimit(app, max_bytes=1000, memory=Budget(500, "bytes")),
        [b"x" * 101],
        headers=[(b"content-length", b"101")],
    )

    assert sent[0]["status"] == 413
    assert app.read == []


@pytest.mark.parametrize("size", [1, 64], ids=["first byte", "half-way"])
def test_a_body_for_which_there_is_no_memory_now_is_refused_as_it_arrives(size):
    memory, app = Budget(500, "bytes"), App()

    with memory.share() as others:
        others.acquire(500 - 7 * (size - 1))
        sent = drive(BodyLimit(app, max_bytes=1000, memory=memory), [b"x"] * 70)
        assert memory.held == others.held

    assert sent[0]["status"] == 429
    assert dict(sent[0]["headers"])[b"retry-after"] == b"1"
    assert len(app.read) == size - 1
    assert drive(BodyLimit(App(), max_bytes=1000, memory=memory), [b"x"] * 70)[0]["status"] == 200


def test_memory_of_samples_is_held_while_an_answer_streams():
    async def app(_scope, receive, send):
        await receive()
        current_memory().acquire(100)
        await receive()  # the client goes away
        held.append(memory.held)

    memory, held = Budget(500, "bytes"), []

    drive(BodyLimit(app, max_bytes=10, memory=memory), [b"x" * 10], then="http.disconnect")

    assert held == [100 + 7 * 10]


def test_a_length_of_thousands_of_digits_is_too_large():
    lengths = [(b"content-length", b"9" * 5000)]

    sent = drive(BodyLimit(App(), max_bytes=10, memory=MEMORY), [b"x"], headers=lengths)

    assert sent[0]["status"] == 413


def test_all_requests_share_the_memory_that_is_configured(make_client):
    client = make_client(max_bytes_in_flight=10_000)

    refused = client.post(CAPTIONS, files={"file": ("a", b"seconds:2" + b" " * 2000)})

    assert refused.status_code == 413
    assert "all requests together have 10000" in refused.json()["error"]["message"]
    assert client.post(CAPTIONS, files=CLIP).status_code == 200


def chat(data="UklGRg==", text="A dog?", **encoding):
    content = [
        {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
        {"type": "text", "text": text},
    ]
    return json.dumps({"messages": [{"role": "user", "content": content}]}, **encoding).encode()


def form(*parts):
    head = b'--b\r\nContent-Disposition: form-data; name="'
    return b"".join(head + name + b'"' + file + b"\r\n\r\n" + data + b"\r\n" for name, file, data in parts)


MEGABYTE = 2**20
SOUND = base64.b64encode(b"RIFF" + bytes(MEGABYTE)).decode()
BODIES = {
    "base64": chat(SOUND),
    "base64 and escapes": chat(SOUND, "\U0001f600"),
    "base64 and an umlaut": chat(SOUND, "ü", ensure_ascii=False),
    "base64 and an emoji": chat(SOUND, "\U0001f600", ensure_ascii=False),
    "an escaped emoji in what should be base64": chat(SOUND + "\U0001f600"),
    "an emoji in what should be base64": chat(SOUND + "\U0001f600", ensure_ascii=False),
    "a long question": chat(text="a" * MEGABYTE + "\U0001f600", ensure_ascii=False),
    "a long key": b'{"' + b"a" * MEGABYTE + b'": "\\ud83d\\ude00"}',
    "a long number": b'{"max_tokens": ' + b"9" * MEGABYTE + b"}",
    "an unfinished text": b'{"messages": "' + b"a" * MEGABYTE,
    "not UTF-8": b'{"messages": "' + b"\xff" * MEGABYTE,
    "UTF-16": chat(SOUND + "\U0001f600").decode().encode("utf-16-le"),
    "UTF-32": chat(SOUND + "\U0001f600", ensure_ascii=False).decode().encode("utf-32"),
    "a file": form((b"file", b'; filename="a"', b"RIFF" + bytes(2 * MEGABYTE))) + b"--b--\r\n",
    "many files": form(*[(b"file", b'; filename="a"', bytes(9000))] * 200) + b"--b--\r\n",
    "a long field": form(
        (b"file", b'; filename="a"', b"RIFF"),
        (b"question", b"", b"\xf0\x9f\x98\x80" + b"a" * (MEGABYTE - 9)),
    )
    + b"--b--\r\n",
    "many fields": form(
        (b"file", b'; filename="a"', b"RIFF"), *[(b"question", b"", b"\xf0\x9f\x98\x80" + b"a" * 2000)] * 900
    )
    + b"--b--\r\n",
    "an unfinished header": b'--b\r\nContent-Disposition: form-data; name="' + b"a" * MEGABYTE,
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_uses_no_more_memory_than_its_budget(name):
    """The numbers of copies in ``middleware`` are measured here, on the app itself."""
    memory = Recording(10**9, "bytes")
    service = AudioService(FakeEncoder(), FakeAnswerer(), decoder=FakeDecoder())
    app = BodyLimit(make_app(service, ServeConfig()), max_bytes=10**8, memory=memory)
    is_form = BODIES[name].startswith(b"--b")
    content_type = b"multipart/form-data; boundary=b" if is_form else b"application/json"
    at = {"path": QUESTIONS if is_form else CHAT, "headers": [(b"content-type", content_type)]}
    drive(app, [b""], **at)  # what is made once
    view = memoryview(BODIES[name])
    chunks = (bytes(view[start : start + 2**16]) for start in range(0, len(view), 2**16))

    tracemalloc.start()
    sent = drive(app, chunks, **at)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert sent[0]["status"] in {200, 400, 413, 422}
    assert peak < memory.most + _AROUND


_AROUND = 2**20
"""Bytes a request needs at any size; tracemalloc counts the event loop's start, too."""


class Recording(Budget):
    """A budget that records its peak."""

    most = 0.0

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "held":
            super().__setattr__("most", max(self.most, value))


def test_one_request_too_many_is_refused_at_once_and_places_are_given_back(make_client, encoder):
    client = make_client(max_requests_in_flight=2)
    encoder.gate = threading.Event()
    pending = [PendingRequest(client), PendingRequest(client)]
    assert all(encoder.arrived.acquire(timeout=20) for _ in range(3))  # the two, and the warm-up

    refused = client.post(CAPTIONS, files=CLIP)
    alive = client.get("/health")
    encoder.gate.set()

    assert refused.status_code == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert refused.headers["retry-after"] == "1"
    assert alive.status_code == 200
    assert [one.response().status_code for one in pending] == [200, 200]
    assert client.post(CAPTIONS, files=CLIP).status_code == 200


def test_a_place_is_given_back_when_the_app_fails():
    admission = ConcurrencyLimit(App(error=RuntimeError("no")), limit=1)

    for _ in range(2):
        with pytest.raises(RuntimeError, match="no"):
            drive(admission, [b""])

    assert admission.in_flight == 0


def test_a_request_that_exceeds_its_time_is_408(make_client, encoder):
    client = make_client(request_timeout_seconds=0.05)
    encoder.gate = threading.Event()

    response = client.post(CAPTIONS, files=CLIP)
    encoder.gate.set()

    assert response.status_code == 408
    assert response.json()["error"]["type"] == "timeout_error"


def test_an_upload_that_stalls_is_408():
    sent = drive(Timeout(App(), seconds=0.05, stream_seconds=60), [b"x"], stall=True)

    assert sent[0]["status"] == 408


def test_a_timeout_of_the_app_itself_is_raised():
    with pytest.raises(TimeoutError, match="mine"):
        drive(Timeout(App(error=TimeoutError("mine")), seconds=60, stream_seconds=60), [b""])


def test_a_stream_without_end_is_broken_off():
    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await anyio.sleep_forever()

    with pytest.raises(TimeoutError):
        drive(Timeout(app, seconds=60, stream_seconds=0.05), [b""])


def test_a_started_response_is_broken_off_not_sent_twice():
    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        drive(UnexpectedErrors(app), [b""])


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-123", True), ("x" * 128, True), ("x" * 129, False), ("", False)]
)
def test_a_short_printable_request_id_is_echoed(client, given, kept):
    echoed = client.get("/health", headers={"X-Request-Id": given}).headers.get_list("x-request-id")

    assert (echoed == [given]) == kept
    assert len(echoed) == 1


def test_a_request_id_is_not_sent_twice_where_a_proxy_sends_it():
    sent = drive(RequestId(App(), echo=False), [b""])

    assert sent[0]["headers"] == []


class App:
    """Reads the whole body, then responds 200 or raises."""

    def __init__(self, error=None):
        self.error = error
        self.read = []

    async def __call__(self, scope, receive, send):
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            self.read.append(message["body"])
            more = message["more_body"]
        if self.error is not None:
            raise self.error
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class PendingRequest:
    """A request under way in a thread of its own."""

    def __init__(self, client):
        self._thread = threading.Thread(target=self._post, args=(client,), daemon=True)
        self._thread.start()

    def _post(self, client):
        self._response = client.post(CAPTIONS, files=CLIP)

    def response(self):
        self._thread.join(20)
        return self._response


def drive(app, chunks, *, path="/", headers=(), stall=False, then=None):
    """Send one POST through an ASGI app and return what it sent."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": list(headers),
        "state": {"request_id": "1"},
    }
    remaining = iter(chunks)
    sent = []

    async def receive():
        nonlocal following
        if following is None and then is None:
            await anyio.sleep_forever()
        if following is None:
            return {"type": then}
        chunk, following = following, next(remaining, None)
        return {"type": "http.request", "body": chunk, "more_body": stall or following is not None}

    following = next(remaining)

    async def send(message):
        sent.append(message)

    anyio.run(app, scope, receive, send)
    return sent
