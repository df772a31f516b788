"""OpenAI's chat as clients meet it: the body as JSON; the unmodified client is in test_openai_client.py."""

import base64
import json

import pytest

from mats_ray.config.answer import SantaOptions
from mats_ray.serving.problems import RequestError
from tests.unit.serving.test_app import error_of

CHAT = "/v1/chat/completions"
SOUND = {
    "type": "input_audio",
    "input_audio": {"data": base64.b64encode(b"seconds:2").decode(), "format": "wav"},
}
QUESTION = {"type": "text", "text": "Is there a dog?"}


def message(*parts):
    return [{"role": "user", "content": list(parts)}]


def ask_chat(client, **body):
    return client.post(CHAT, json={"model": "mats", "messages": message(SOUND, QUESTION)} | body)


def events(response):
    assert response.headers["content-type"].startswith("text/event-stream")
    return [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]


def test_a_question_is_answered(client):
    body = ask_chat(client).json()

    assert body["id"].startswith("chatcmpl-")
    assert body["choices"][0]["message"]["content"] == "Is there a dog? 2"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 40, "completion_tokens": 3, "total_tokens": 43}
    assert body["mats"] == {
        "audio_seconds": 2.0,
        "windows": [{"start": 0.0, "end": 2.0, "text": "Is there a dog? 2"}],
    }


def test_a_sound_without_a_question_is_described(client):
    body = ask_chat(client, messages=message(SOUND)).json()

    assert body["choices"][0]["message"]["content"] == "Describe the following audio in a caption. 2"


def test_a_stream_ends_with_usage_and_done(client):
    *chunks, done = events(ask_chat(client, stream=True, stream_options={"include_usage": True}))

    chunks = [json.loads(chunk) for chunk in chunks]
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    said = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1]]
    assert "".join(said) == "Is there a dog? 2"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 43


def test_an_error_midway_is_the_streams_last_event(client, answerer):
    answerer.error = RequestError("gone", code="unavailable")

    *_, last = events(ask_chat(client, stream=True))

    assert json.loads(last)["error"]["code"] == "unavailable"


def test_an_error_before_the_first_piece_is_a_status(client, encoder):
    encoder.error = RequestError("later", code="overloaded")

    error_of(ask_chat(client, stream=True), 429, "overloaded")


def test_what_is_asked_of_the_decoder_arrives_there(client, answerer):
    ask_chat(client, max_tokens=7, temperature=0.5, top_p=0.9, seed=3, stop="end", mats={"santa": False})
    ask_chat(client, max_completion_tokens=8, mats={"profile": "paper", "santa": {"mix": 0.5}})
    ask_chat(client)

    first, second, third = answerer.asked[-3:]
    assert (first.max_new_tokens, first.temperature, first.top_p, first.seed) == (7, 0.5, 0.9, 3)
    assert (first.stop, first.santa) == (("end",), False)
    assert (second.max_new_tokens, second.profile, second.santa) == (8, "paper", SantaOptions(mix=0.5))
    assert (third.temperature, third.seed, third.profile) == (0, 0, None)


def test_windows_have_times(client):
    body = ask_chat(client, mats={"window": 1}).json()

    assert [part["start"] for part in body["mats"]["windows"]] == [0.0, 1.0]
    assert body["choices"][0]["message"]["content"].startswith("[0.0-1.0 s] ")


def test_a_data_url_is_a_sound_too(client):
    url = f"data:audio/wav;base64,{SOUND['input_audio']['data']}"
    part = {"type": "audio_url", "audio_url": {"url": url}}

    assert ask_chat(client, messages=message(part)).status_code == 200


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"messages": message(QUESTION)}, "invalid_field", "messages"),
        ({"messages": message(SOUND, SOUND)}, "invalid_field", "messages"),
        ({"messages": [{"role": "user", "content": "dog?"}]}, "invalid_field", "messages"),
        ({"messages": []}, "invalid_field", "messages"),
        ({"messages": message(SOUND) + message(SOUND)}, "invalid_field", "messages"),
        ({"messages": [{"role": "system", "content": "be brief"}]}, "invalid_field", "messages"),
        ({"messages": message({"type": "image_url"})}, "invalid_field", "messages"),
        (
            {"messages": message({"type": "input_audio", "input_audio": {"data": "%%%", "format": "wav"}})},
            "invalid_field",
            "messages",
        ),
        (
            {"messages": message({"type": "audio_url", "audio_url": {"url": "data:,x"}})},
            "invalid_field",
            "messages",
        ),
        (
            {"messages": message({"type": "audio_url", "audio_url": {"url": "file:///x"}})},
            "invalid_field",
            "messages",
        ),
        ({"n": 2}, "invalid_field", None),
        ({"tools": [{}]}, "invalid_field", None),
        ({"frobnicate": 1}, "invalid_field", "frobnicate"),
        ({"temperature": 3}, "invalid_field", "temperature"),
        ({"max_tokens": 0}, "invalid_field", "max_tokens"),
        ({"max_tokens": 10**6}, "invalid_field", "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "invalid_field", None),
        ({"stop": ["a"] * 9}, "invalid_field", "stop"),
        ({"temperature": 1, "mats": {"profile": "paper"}}, "invalid_field", "temperature"),
        ({"mats": {"window": 0.1}}, "invalid_field", "mats"),
        ({"mats": {"colour": 1}}, "invalid_field", "mats"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_cannot_be_done_is_refused_by_name(client, body, code, param):
    error_of(ask_chat(client, **body), 422, code, param=param)


def test_what_asks_for_nothing_may_be_sent(client):
    neutral = {"n": 1, "frequency_penalty": 0, "logprobs": False, "tools": None, "user": "me", "stop": None}

    assert ask_chat(client, **neutral, modalities=["text"]).status_code == 200


def test_another_model_is_404(client):
    error_of(ask_chat(client, model="gpt-4o-audio-preview"), 404, "model_not_found", param="model")
    assert ask_chat(client, model="toy-0123").status_code == 200


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "malformed_body"),
        ({"files": {"file": b"x"}}, 415, "not_json"),
        ({}, 415, "not_json"),
    ],
    ids=["broken", "form", "nothing"],
)
def test_what_is_no_json_is_refused(client, request_, status, code):
    response = client.post(CHAT, **request_)

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
