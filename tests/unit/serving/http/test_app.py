"""Every route and every error, as a client sees them."""

import threading
import time
from dataclasses import replace

import pytest

from mats_ray.serving.errors import RequestError
from tests.unit.serving.fakes import CARD

CAPTIONS, QUESTIONS = "/v1/audio/captions", "/v1/audio/questions"
CLIP = {"file": ("dog.wav", b"seconds:2")}


def test_a_question_is_answered(client):
    response = client.post(QUESTIONS, files=CLIP, data={"question": " Is there a dog? "})

    assert response.status_code == 200
    body = response.json()
    assert body.pop("id") == response.headers["x-request-id"]
    assert body == {
        "object": "audio.answer",
        "model": "toy-0123",
        "text": "Is there a dog? 2",
        "finish_reason": "stop",
        "windows": [{"start": 0.0, "end": 2.0, "text": "Is there a dog? 2"}],
        "usage": {"audio_seconds": 2.0, "prompt_tokens": 40, "completion_tokens": 3},
    }


def test_a_caption_needs_no_question(client):
    response = client.post(CAPTIONS, files=CLIP)

    assert response.json()["text"] == "Describe the following audio in a caption. 2"


def test_models_are_listed_and_found_by_id(client):
    one = {"id": "toy-0123", "object": "model", "created": 1_700_000_000, "owned_by": "mats_ray"}

    assert client.get("/v1/models").json() == {"object": "list", "data": [one]}
    assert client.get("/v1/models/toy-0123").json() == one
    error_of(client.get("/v1/models/other/name"), 404, "model_not_found")


def test_after_a_roll_out_the_new_model_is_listed_before_it_has_answered(client, answerer):
    client.post(CAPTIONS, files=CLIP)

    answerer.card = replace(CARD, id="toy-next", version="2")

    assert client.get("/v1/models").json()["data"][0]["id"] == "toy-next"
    assert client.get("/v1/models/toy-next").status_code == 200
    error_of(client.get("/v1/models/toy-0123"), 404, "model_not_found")
    assert client.get("/readyz").json()["model"] == "toy-next"
    form = {"files": CLIP, "data": {"labels": "a,b"}}
    assert client.post("/v1/audio/classifications", **form).json()["model"] == "toy-next"
    assert client.post("/v1/audio/embeddings", files=CLIP).json()["model"] == "toy-next"


def test_health_is_alive_even_without_a_model(make_client, encoder):
    encoder.error = RuntimeError("no weights")

    assert make_client().get("/health").json() == {"status": "ok"}


def test_ready_only_after_an_answer(make_client, encoder):
    encoder.gate = threading.Event()
    client = make_client()

    waiting = client.get("/readyz")
    encoder.gate.set()

    error_of(waiting, 503, "not_ready")
    assert waiting.headers["retry-after"] == "2"
    assert eventually(lambda: client.get("/readyz")) == {"status": "ready", "model": "toy-0123"}


def test_a_failed_warm_up_is_tried_again(make_client, encoder):
    encoder.error = RuntimeError("not yet")
    client = make_client()
    error_of(client.get("/readyz"), 503, "not_ready")

    encoder.error = None

    assert eventually(lambda: client.get("/readyz"))["status"] == "ready"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("not_found", 404),
        ("too_large", 413),
        ("too_long", 413),
        ("not_audio", 415),
        ("unsupported", 415),
        ("truncated", 422),
        ("damaged", 422),
        ("empty", 422),
        ("not_finite", 422),
    ],
)
def test_audio_that_cannot_be_used_names_the_file(client, code, status):
    response = client.post(CAPTIONS, files={"file": ("broken.ogg", f"error:{code}".encode())})

    error = error_of(response, status, code, param="file")
    assert error["message"].startswith("broken.ogg: ")


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"files": CLIP}, "question"),
        ({"files": CLIP, "data": {"question": ""}}, "question"),
        ({"files": CLIP, "data": {"question": " \n"}}, "question"),
        ({"files": {"question": (None, b"?")}}, "file"),
    ],
    ids=["no question", "empty question", "blank question", "no file"],
)
def test_a_missing_field_is_named(client, form, param):
    error_of(client.post(QUESTIONS, **form), 422, "missing_field", param=param)


def test_a_file_sent_as_text_is_refused(client):
    response = client.post(CAPTIONS, files={"file": (None, b"@clip.wav")})

    error_of(response, 422, "invalid_field", param="file")


def test_two_files_are_refused(client):
    response = client.post(CAPTIONS, files=[("file", b"seconds:1"), ("file", b"seconds:2")])

    error_of(response, 422, "clip_count", param="file")


def test_a_question_without_end_is_refused(client):
    response = client.post(QUESTIONS, files=CLIP, data={"question": "why " * 1000})

    assert "4000 characters" in error_of(response, 422, "invalid_field", param="question")["message"]


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {"file": "x"}},
        {"content": b"RIFF", "headers": {"content-type": "audio/wav"}},
        {"data": {"question": "?"}},
        {},
    ],
    ids=["json", "bare audio", "url-encoded", "nothing"],
)
def test_anything_but_a_multipart_form_is_415(client, request_):
    error_of(client.post(QUESTIONS, **request_), 415, "not_multipart")


@pytest.mark.parametrize("prefix", ["", "/mats", "/v1/chat/completions"])
def test_a_wrong_content_type_is_explained_below_any_prefix(make_client, prefix):
    client = make_client(root_path=prefix)

    form = error_of(client.post(f"{prefix}{QUESTIONS}", json={}), 415, "not_multipart")
    chat = error_of(client.post(f"{prefix}/v1/chat/completions", files=CLIP), 415, "not_json")
    bad = client.post(f"{prefix}/v1/chat/completions", json={"n": 2})

    assert "multipart/form-data, got 'application/json'" in form["message"]
    assert "application/json, got 'multipart/form-data; " in chat["message"]
    assert "multipart" not in error_of(bad, 422, "invalid_field", param="n")["message"]


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"--b\r\nno header line\r\n"),
    ],
    ids=["no boundary", "garbage"],
)
def test_a_malformed_form_is_400(client, content_type, content):
    response = client.post(QUESTIONS, content=content, headers={"content-type": content_type})

    error_of(response, 400, "malformed_body")


def test_an_unknown_route_is_refused_with_a_list_of_routes(client):
    error = error_of(client.post("/v1/audio/transcriptions", files=CLIP), 404, "route_not_found")

    assert QUESTIONS in error["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/" + "x" * 5000), ("GET", "/v1/models/" + "x" * 5000), ("X" * 5000, CAPTIONS)],
    ids=["route", "model", "method"],
)
def test_a_refusal_is_short_however_long_the_request_is(client, method, path):
    response = client.request(method, path)

    assert response.status_code in {404, 405}
    assert len(response.json()["error"]["message"]) < 500


def test_a_wrong_method_is_refused_with_the_allowed_ones(client):
    response = client.get(CAPTIONS)

    error_of(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


def test_an_internal_error_reveals_nothing_and_keeps_the_server_alive(client, encoder):
    encoder.error = RuntimeError("weights at /secret/place")

    response = client.post(CAPTIONS, files=CLIP)
    encoder.error = None

    assert "secret" not in str(error_of(response, 500, "internal"))
    assert "x-request-id" in response.headers
    assert client.post(CAPTIONS, files=CLIP).status_code == 200


@pytest.mark.parametrize(("code", "status"), [("overloaded", 429), ("unavailable", 503)])
def test_an_overloaded_model_sends_retry_after(client, encoder, code, status):
    encoder.error = RequestError("later", code=code)

    response = client.post(CAPTIONS, files=CLIP)

    error_of(response, status, code)
    assert int(response.headers["retry-after"]) > 0


def test_openapi_lists_the_routes_and_their_errors(client):
    paths = client.get("/openapi.json").json()["paths"]

    assert {CAPTIONS, QUESTIONS, "/v1/models", "/health", "/readyz"} <= paths.keys()
    error = paths[QUESTIONS]["post"]["responses"]["429"]["content"]["application/json"]["schema"]
    assert error["$ref"].endswith("/ErrorBody")


def error_of(response, status, code, *, param=None):
    """Check that a response is an error in the agreed form, and return the error."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    assert "Traceback" not in error["message"]
    return error


def eventually(send, *, seconds=20):
    """Send until the status is 200; return the body."""
    deadline = time.monotonic() + seconds
    while (response := send()).status_code != 200:
        assert time.monotonic() < deadline, response.text
    return response.json()
