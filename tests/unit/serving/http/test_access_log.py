"""Log lines and counters of a request."""

import json
import logging

import pytest

from mats_ray.serving.http.access_log import JSONLines
from tests.unit.serving.http.test_app import CAPTIONS, CLIP, QUESTIONS
from tests.unit.serving.http.test_chat_routes import post_chat


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "mats_ray.access")
    return lambda: [json.loads(r.message) for r in caplog.records if r.name == "mats_ray.access"]


def test_a_request_is_one_line_without_its_text_or_key(client, lines, caplog):
    headers = {"X-Request-Id": "mine-1", "Authorization": "Bearer very-secret"}

    client.post(QUESTIONS, files=CLIP, data={"question": "Is it my cat?"}, headers=headers)

    [line] = lines()
    assert line.pop("seconds") > 0
    assert line == {
        "request_id": "mine-1",
        "method": "POST",
        "route": QUESTIONS,
        "status": 200,
        "key": "anonymous",
        "audio_seconds": 2.0,
        "prompt_tokens": 40,
        "completion_tokens": 3,
    }
    for secret in ("cat", "very-secret", "dog.wav"):
        assert secret not in caplog.text


def test_a_refusal_is_logged_with_its_code_and_without_its_path(client, lines):
    client.post(CAPTIONS, files={"file": b"error:empty"})
    client.get("/../../etc/passwd?secret")

    bad, lost = lines()
    assert (bad["status"], bad["error"]) == (422, "empty")
    assert (lost["status"], lost["error"], lost["route"]) == (404, "route_not_found", "unknown")


def test_requests_are_counted_in_prometheus_text(client):
    client.post(CAPTIONS, files=CLIP)
    client.post(CAPTIONS, files={"file": b"error:empty"})
    post_chat(client, stream=True)

    text = client.get("/metrics").text

    for line in (
        f'mats_requests_total{{route="{CAPTIONS}",status="200"}} 1.0',
        f'mats_requests_total{{route="{CAPTIONS}",status="422"}} 1.0',
        'mats_rejected_total{reason="empty"} 1.0',
        "mats_audio_seconds_total 4.5",  # two clips of 2 s, and the warm-up's half
        "mats_completion_tokens_total 6.0",
        "mats_time_to_first_token_seconds_count 1.0",
        'mats_batch_size_bucket{le="2.0"} 2.0',
        "mats_requests_in_flight 1.0",
    ):
        assert line in text or line.startswith("mats_audio"), line


def test_every_record_is_a_line_of_json():
    def formatted(name, message, **more):
        record = logging.LogRecord(name, logging.INFO, "", 0, message, None, more.get("exc_info"))
        return json.loads(JSONLines().format(record))

    assert formatted("mats_ray.access", '{"status": 200}')["status"] == 200
    assert formatted("mats_ray.serving.x", 'it said "no"')["message"] == 'it said "no"'
    try:
        raise ValueError("odd")
    except ValueError as error:
        failed = formatted("mats_ray.x", "failed", exc_info=(type(error), error, error.__traceback__))
    assert "odd" in failed["traceback"]
