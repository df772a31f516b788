"""Limits hold before a body is read, while it is read, and while an answer is computed."""

import threading

import anyio
import pytest

from mats_ray.serving.guards import Admission, BodyLimit, Deadline, LastResort, RequestId

CAPTIONS = "/v1/audio/captions"
CLIP = {"file": ("dog.wav", b"seconds:2")}


def test_a_declared_length_over_the_limit_is_refused_unread():
    app = App()

    sent = drive(BodyLimit(app, max_bytes=10), [b"x" * 11], headers=[(b"content-length", b"11")])

    assert sent[0]["status"] == 413
    assert app.read == []


def test_a_body_that_lies_about_its_length_is_cut_off_while_it_is_read():
    app = App()

    sent = drive(BodyLimit(app, max_bytes=10), [b"x" * 6, b"y" * 6, b"z" * 6])

    assert [message["status"] for message in sent if "status" in message] == [413]
    assert app.read == [b"x" * 6]


def test_a_body_of_just_the_limit_passes():
    app = App()

    sent = drive(BodyLimit(app, max_bytes=10), [b"x" * 5, b"y" * 5])

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


def test_one_request_too_many_is_refused_at_once_and_places_are_given_back(make_client, encoder):
    client = make_client(max_requests_in_flight=2)
    encoder.gate = threading.Event()
    asked = [Asking(client), Asking(client)]
    assert all(encoder.arrived.acquire(timeout=20) for _ in range(3))  # the two, and the warm-up

    refused = client.post(CAPTIONS, files=CLIP)
    alive = client.get("/health")
    encoder.gate.set()

    assert refused.status_code == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert refused.headers["retry-after"] == "1"
    assert alive.status_code == 200
    assert [one.response().status_code for one in asked] == [200, 200]
    assert client.post(CAPTIONS, files=CLIP).status_code == 200


def test_a_place_is_given_back_when_the_app_fails():
    admission = Admission(App(error=RuntimeError("no")), limit=1)

    for _ in range(2):
        with pytest.raises(RuntimeError, match="no"):
            drive(admission, [b""])

    assert admission.in_flight == 0


def test_an_answer_that_takes_too_long_is_408(make_client, encoder):
    client = make_client(request_timeout_seconds=0.05)
    encoder.gate = threading.Event()

    response = client.post(CAPTIONS, files=CLIP)
    encoder.gate.set()

    assert response.status_code == 408
    assert response.json()["error"]["type"] == "timeout_error"


def test_an_upload_that_stalls_is_408():
    sent = drive(Deadline(App(), seconds=0.05, stream_seconds=60), [b"x"], stall=True)

    assert sent[0]["status"] == 408


def test_a_timeout_of_the_apps_own_is_not_taken_for_ours():
    with pytest.raises(TimeoutError, match="mine"):
        drive(Deadline(App(error=TimeoutError("mine")), seconds=60, stream_seconds=60), [b""])


def test_a_stream_without_end_is_broken_off():
    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await anyio.sleep_forever()

    with pytest.raises(TimeoutError):
        drive(Deadline(app, seconds=60, stream_seconds=0.05), [b""])


def test_a_response_that_has_begun_is_broken_off_not_answered_twice():
    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        drive(LastResort(app), [b""])


@pytest.mark.parametrize(
    ("asked", "kept"), [("abc-123", True), ("x" * 128, True), ("x" * 129, False), ("", False)]
)
def test_a_sensible_request_id_is_echoed(client, asked, kept):
    echoed = client.get("/health", headers={"X-Request-Id": asked}).headers.get_list("x-request-id")

    assert (echoed == [asked]) == kept
    assert len(echoed) == 1


def test_a_request_id_is_not_sent_twice_where_a_proxy_sends_it():
    sent = drive(RequestId(App(), echo=False), [b""])

    assert sent[0]["headers"] == []


class App:
    """Reads the whole body, then says 200 or raises."""

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


class Asking:
    """A request under way in a thread of its own."""

    def __init__(self, client):
        self._thread = threading.Thread(target=self._ask, args=(client,), daemon=True)
        self._thread.start()

    def _ask(self, client):
        self._response = client.post(CAPTIONS, files=CLIP)

    def response(self):
        self._thread.join(20)
        return self._response


def drive(app, chunks, *, headers=(), stall=False):
    """Send one POST through an ASGI app and return what it sent."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": list(headers),
        "state": {"request_id": "1"},
    }
    messages = [
        {"type": "http.request", "body": chunk, "more_body": stall or i + 1 < len(chunks)}
        for i, chunk in enumerate(chunks)
    ]
    sent = []

    async def receive():
        if not messages:
            await anyio.sleep_forever()
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    anyio.run(app, scope, receive, send)
    return sent
