"""Spans of requests and their stages, collected in memory."""

import json

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from mats_ray.config.serve import TracingConfig
from mats_ray.errors import ConfigError
from mats_ray.serving.tracing import Tracing

QUESTION = "Is there a secret dog?"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class LastSpanExporter(InMemorySpanExporter):
    """Keeps spans in memory; ``last`` is the one made last."""

    def __init__(self):
        super().__init__()
        LastSpanExporter.last = self


TRACING = {"exporter": f"{__name__}:LastSpanExporter"}


def post_chat(client, *, stream=False, headers=None):
    message = [
        {"type": "input_audio", "input_audio": {"data": "c2Vjb25kczoz", "format": "wav"}},
        {"type": "text", "text": QUESTION},
    ]
    body = {"messages": [{"role": "user", "content": message}], "stream": stream}
    return client.post("/v1/chat/completions", json=body, headers=headers or {})


def spans(client):
    """End the client's app, which sends what is left; return spans of requests by name."""
    client.__exit__(None, None, None)
    spans = LastSpanExporter.last.get_finished_spans()
    requests = {span.context.trace_id for span in spans if span.kind is SpanKind.SERVER}
    return {span.name: span for span in spans if span.context.trace_id in requests}


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_one_trace_of_its_stages(make_client, stream):
    client = make_client(tracing=TRACING)

    assert post_chat(client, stream=stream, headers={"traceparent": CALLER}).status_code == 200

    by_name = spans(client)
    request = by_name["POST /v1/chat/completions"]
    assert f"{request.context.trace_id:032x}" in CALLER
    assert f"{request.parent.span_id:016x}" in CALLER
    for name in ("mats.decode", "mats.encode", "mats.answer"):
        assert by_name[name].parent.span_id == request.context.span_id
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["mats.audio_seconds"] == 3
    assert by_name["mats.answer"].attributes["mats.completion_tokens"] == 3


@pytest.mark.parametrize("prefix", ["", "/mats"])
def test_requests_of_monitors_leave_no_span_below_any_prefix(make_client, prefix):
    client = make_client(tracing=TRACING, root_path=prefix)

    for path in ("/health", "/readyz", "/metrics", "/v1/models"):
        client.get(f"{prefix}{path}")

    names = {span.name for span in LastSpanExporter.last.get_finished_spans()}
    assert names | set(spans(client)) == {"GET /v1/models"}


def test_spans_hold_neither_text_nor_names_nor_keys(make_client):
    client = make_client(tracing=TRACING)

    post_chat(client)
    client.post("/v1/audio/captions", files={"file": ("secret.wav", b"error:empty")})
    client.post("/v1/secret")

    exported = "".join(json.dumps(json.loads(span.to_json())) for span in spans(client).values())
    assert "mats.decode" in exported
    assert "secret" not in exported


def test_a_failure_is_marked_by_its_kind(make_client):
    client = make_client(tracing=TRACING)

    client.post("/v1/audio/captions", files={"file": ("a.wav", b"error:empty")})

    by_name = spans(client)
    assert by_name["mats.decode"].attributes["error.type"] == "AudioError"
    assert by_name["POST /v1/audio/captions"].attributes["mats.error"] == "empty"


def test_health_checks_leave_no_spans(make_client):
    client = make_client(tracing=TRACING)

    client.get("/health")

    assert not any("health" in name or name == "GET" for name in spans(client))


def test_none_of_the_requests_may_be_sampled(make_client):
    client = make_client(tracing=TRACING | {"sampling_ratio": 0.0})

    post_chat(client)

    assert not spans(client)
    assert not LastSpanExporter.last.get_finished_spans()


@pytest.mark.parametrize(
    ("exporter", "message"),
    [
        ("not_installed.anywhere:Exporter", "pip install"),
        (f"{__name__}:Nothing", "has no 'Nothing'"),
        ("builtins:int_", "has no"),
        ("json:loads", "cannot be made"),
    ],
)
def test_an_exporter_that_is_not_there_is_one_clear_error(exporter, message):
    with pytest.raises(ConfigError, match=message):
        Tracing(TracingConfig(exporter=exporter))
