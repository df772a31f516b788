"""OpenAI's chat as clients meet it: the body as JSON; the unmodified client is in test_openai_client.py."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest

from mats_ray.config.answer import SantaOptions
from mats_ray.serving.errors import RequestError
from mats_ray.tasks import NO_CLIP, several_clips
from tests.unit.serving.fakes import CARD
from tests.unit.serving.http.test_app import error_of

CHAT = "/v1/chat/completions"
SOUND = {
    "type": "input_audio",
    "input_audio": {"data": base64.b64encode(b"seconds:2").decode(), "format": "wav"},
}
QUESTION = {"type": "text", "text": "Is there a dog?"}


def message(*parts):
    return [{"role": "user", "content": list(parts)}]


def post_chat(client, **body):
    return client.post(CHAT, json={"model": "mats", "messages": message(SOUND, QUESTION)} | body)


def events(response):
    assert response.headers["content-type"].startswith("text/event-stream")
    return [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]


def test_a_question_is_answered(client):
    body = post_chat(client).json()

    assert body["id"].startswith("chatcmpl-")
    assert body["choices"][0]["message"]["content"] == "Is there a dog? 2"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 40, "completion_tokens": 3, "total_tokens": 43}
    assert body["mats"] == {
        "audio_seconds": 2.0,
        "windows": [{"start": 0.0, "end": 2.0, "text": "Is there a dog? 2"}],
    }


def test_a_sound_without_a_question_is_described(client):
    body = post_chat(client, messages=message(SOUND)).json()

    assert body["choices"][0]["message"]["content"] == "Describe the following audio in a caption. 2"


def test_a_stream_ends_with_usage_and_done(client):
    *chunks, done = events(post_chat(client, stream=True, stream_options={"include_usage": True}))

    chunks = [json.loads(chunk) for chunk in chunks]
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1]]
    assert "".join(texts) == "Is there a dog? 2"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 43


def test_an_error_midway_is_the_streams_last_event(client, answerer):
    answerer.error = RequestError("gone", code="unavailable")

    *_, last = events(post_chat(client, stream=True))

    assert json.loads(last)["error"]["code"] == "unavailable"


def test_an_error_before_the_first_piece_is_a_status(client, encoder):
    encoder.error = RequestError("later", code="overloaded")

    error_of(post_chat(client, stream=True), 429, "overloaded")


def test_parameters_of_generation_reach_the_answerer(client, answerer):
    post_chat(client, max_tokens=7, temperature=0.5, top_p=0.9, seed=3, stop="end", mats={"santa": False})
    post_chat(client, max_completion_tokens=8, mats={"profile": "paper", "santa": {"mix": 0.5}})
    post_chat(client)

    first, second, third = answerer.options[-3:]
    assert (first.max_new_tokens, first.temperature, first.top_p, first.seed) == (7, 0.5, 0.9, 3)
    assert (first.stop, first.santa) == (("end",), False)
    assert (second.max_new_tokens, second.profile, second.santa) == (8, "paper", SantaOptions(mix=0.5))
    assert (third.temperature, third.seed, third.profile) == (0, 0, None)


def test_windows_have_times(client):
    body = post_chat(client, mats={"window": 1}).json()

    assert [part["start"] for part in body["mats"]["windows"]] == [0.0, 1.0]
    assert body["choices"][0]["message"]["content"].startswith("[0.0-1.0 s] ")


def test_a_data_url_is_a_sound_too(client):
    url = f"data:audio/wav;base64,{SOUND['input_audio']['data']}"
    part = {"type": "audio_url", "audio_url": {"url": url}}

    assert post_chat(client, messages=message(part)).status_code == 200


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"messages": message(QUESTION)}, "clip_count", "messages"),
        ({"messages": message(SOUND, SOUND)}, "clip_count", "messages"),
        ({"messages": [{"role": "user", "content": "dog?"}]}, "clip_count", "messages"),
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
        ({"n": 2}, "invalid_field", "n"),
        ({"tools": [{}]}, "invalid_field", "tools"),
        ({"frobnicate": 1}, "invalid_field", "frobnicate"),
        ({"temperature": 3}, "invalid_field", "temperature"),
        ({"max_tokens": 0}, "invalid_field", "max_tokens"),
        ({"max_tokens": 10**6}, "invalid_field", "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "invalid_field", "max_tokens"),
        ({"stop": ["a"] * 9}, "invalid_field", "stop"),
        ({"temperature": 1, "mats": {"profile": "paper"}}, "invalid_field", "temperature"),
        ({"mats": {"window": 0.1}}, "invalid_field", "mats"),
        ({"mats": {"colour": 1}}, "invalid_field", "mats"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_an_unsupported_parameter_is_refused_by_name(client, body, code, param):
    error_of(post_chat(client, **body), 422, code, param=param)


@pytest.mark.parametrize("stream", [False, True])
def test_one_clip_is_the_rule(client, stream):
    """The lines stand in docs/serving.md."""
    text = error_of(
        post_chat(client, messages=message(QUESTION), stream=stream), 422, "clip_count", param="messages"
    )
    several = post_chat(client, messages=message(SOUND, QUESTION, SOUND), stream=stream)
    two = error_of(several, 422, "clip_count", param="messages")

    assert text["message"] == NO_CLIP
    assert two["message"] == several_clips(2)
    page = (Path(__file__).parents[4] / "docs" / "serving.md").read_text()
    talk = error_of(post_chat(client, messages=message(SOUND) * 2, stream=stream), 422, ANY, param="messages")
    assert all(line in page for line in (NO_CLIP, several_clips(2), talk["message"]))


def part(kind="text", **more):
    content = {"input_audio": SOUND["input_audio"], "text": "?"}[kind]
    return {"type": kind, kind: content, **more}


@pytest.mark.parametrize(
    ("body", "message_part"),
    [
        (
            {"messages": message(SOUND, part(cache_control={"type": "ephemeral"}))},
            "messages[0].content[1].cache_control = {'type': 'ephemeral'} cannot be used: there is no such",
        ),
        (
            {"messages": message({"type": "input_audio", "input_audio": {"data": "AAAA", "rate": 8000}})},
            "content[0].input_audio.rate = 8000 cannot be used: there is no such field; allowed: data, f",
        ),
        (
            {"messages": message({"type": "input_audio", "input_audio": {"data": 5}})},
            "messages[0].content[0].input_audio.data = 5 cannot be used: input should be a valid string",
        ),
        (
            {"messages": message({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "<b>"}})},
            "messages[0].content[0].input_audio.format = '<b>'",
        ),
        (
            {"messages": message(SOUND, {"type": "image_url"})},
            "messages[0].content[1].type = 'image_url' cannot be used: input should be 'text', 'input_audio'",
        ),
        (
            {"messages": message(SOUND, {"type": "image_url", "image_url": {"url": "x"}})},
            "messages[0].content[1].image_url",
        ),
        ({"messages": message(SOUND, {"text": "?"})}, "the field 'messages[0].content[1].type' is missing"),
        ({"messages": message(SOUND, {"type": "text"})}, "a part of type 'text' needs 'text'"),
        (
            {"messages": message(part("input_audio", text="?"))},
            "content[0].text = '?' cannot be used: a part of type 'input_audio' cannot have 'text'",
        ),
        ({"messages": message(SOUND, 5)}, "messages[0].content[1] = 5 cannot be used"),
        ({"messages": message(SOUND, None)}, "messages[0].content[1] = None cannot be used"),
        ({"messages": message(SOUND, *[QUESTION] * 40)}, "messages[0].content = [{"),
        ({"messages": [{"role": "user"}]}, "the field 'messages[0].content' is missing"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content = 5"),
        ({"messages": [{"role": "user", "content": [], "tool_calls": [1]}]}, "messages[0].tool_calls = [1]"),
        ({"messages": ["?"]}, "messages[0] = '?'"),
        ({"messages": 5}, "messages = 5"),
        ({"messages": message(SOUND) * 2}, "there are 2 messages: MATS holds no conversation"),
        (
            {"messages": [{"role": "system", "content": "Be brief."}, *message(SOUND)]},
            "messages[0].role is 'system': MATS has no system prompt",
        ),
        (
            {"messages": [*message(SOUND), {"role": "developer", "content": "x"}]},
            "messages[1].role is 'developer': MATS has no system prompt",
        ),
        (
            {"messages": [*message(SOUND), {"role": "assistant", "content": "x"}]},
            "messages[1].role is 'assistant': MATS holds no conversation",
        ),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role is ['user']"),
        ({"n": 2}, "n = 2 cannot be used: n is not supported here; leave it out, or send 1"),
        ({"logit_bias": {"5": 1}}, "logit_bias = {'5': 1}"),
        ({"frobnicate": 1}, "frobnicate = 1 cannot be used: there is no such field; allowed: model, "),
        ({"mats": {"colour": 1}}, "mats.colour = 1 cannot be used: there is no such field; allowed: profile"),
        ({"mats": {"santa": {"mux": 1}}}, "mats.santa.mux = 1"),
        ({"mats": {"santa": "yes"}}, "mats.santa = 'yes'"),
        ({"mats": {"profile": "quick"}}, "mats.profile = 'quick' cannot be used: input should be 'paper' or"),
        ({"mats": 5}, "mats = 5"),
        ({"stop": ["a", ""]}, "stop[1] = ''"),
        ({"stop": ["a", 5]}, "stop[1] = 5"),
        ({"stop": "x" * 101}, "stop = 'xxx"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata = {"),
        ({"stream": "yes"}, "stream = 'yes'"),
        ({"user": "x" * 1000}, "user = 'xxx"),
        ({"x" * 5000: "y" * 5000}, "x" * 60),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens = 1 cannot be used: max_completion_to"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_refusal_names_the_field_its_value_and_what_is_allowed(client, body, message_part):
    error = error_of(post_chat(client, **body), 422, ANY, param=ANY)

    assert message_part in error["message"]
    assert len(error["message"]) < 500
    assert "\n" not in error["message"]


@pytest.mark.parametrize(
    ("body", "field", "allowed"),
    [
        ({"temperature": 1e-320}, "temperature", "0, or from 0.0001 to 2"),
        ({"temperature": 9e-5}, "temperature", "0, or from 0.0001 to 2"),
        ({"temperature": -1}, "temperature", "from 0 to 2"),
        ({"temperature": 2.1}, "temperature", "from 0 to 2"),
        ({"temperature": "1"}, "temperature", "from 0 to 2"),
        ({"temperature": True}, "temperature", "from 0 to 2"),
        ({"top_p": 0}, "top_p", "from 0.0001 to 1"),
        ({"top_p": 1e-320}, "top_p", "from 0.0001 to 1"),
        ({"top_p": 1.1}, "top_p", "from 0.0001 to 1"),
        ({"seed": 2**63}, "seed", f"to {2**63 - 1}"),
        ({"seed": 10**4000}, "seed", f"to {2**63 - 1}"),
        ({"seed": 1.5}, "seed", "an integer"),
        ({"max_tokens": 0}, "max_tokens", "from 1 to 65536"),
        ({"max_tokens": 2**40}, "max_tokens", "from 1 to 65536"),
        ({"max_tokens": True}, "max_tokens", "from 1 to 65536"),
        ({"max_completion_tokens": -1}, "max_completion_tokens", "from 1 to 65536"),
        ({"max_tokens": 513}, "max_tokens", "512"),
        ({"mats": {"window": 0.5}}, "mats.window", "from 1 to 3600"),
        ({"mats": {"window": 1e300}}, "mats.window", "from 1 to 3600"),
        ({"mats": {"santa": {"num_neighbours": 25_000_000}}}, "mats.santa.num_neighbours", "from 1 to 1024"),
        ({"mats": {"santa": {"num_neighbours": 2 * 10**9}}}, "mats.santa.num_neighbours", "from 1 to 1024"),
        ({"mats": {"santa": {"num_neighbours": True}}}, "mats.santa.num_neighbours", "from 1 to 1024"),
        ({"mats": {"santa": {"temperature": 1e-40}}}, "mats.santa.temperature", "from 0.001 to 100"),
        ({"mats": {"santa": {"temperature": 1e300}}}, "mats.santa.temperature", "from 0.001 to 100"),
        ({"mats": {"santa": {"mix": -0.1}}}, "mats.santa.mix", "from 0 to 1"),
        ({"mats": {"santa": {"mix": 1.1}}}, "mats.santa.mix", "from 0 to 1"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_number_out_of_its_bounds_is_refused_with_them(client, body, field, allowed):
    error = error_of(post_chat(client, **body), 422, "invalid_field", param=field.split(".")[0])

    assert error["message"].startswith(field)
    assert allowed in error["message"]


def test_the_bounds_themselves_are_allowed(client):
    least = {"num_neighbours": 1, "temperature": 1e-3, "mix": 0}
    most = {"num_neighbours": 1024, "temperature": 100, "mix": 1}

    for body in (
        {"temperature": 1e-4, "top_p": 1e-4, "seed": -(2**63), "max_tokens": 1, "mats": {"santa": least}},
        {"temperature": 2, "top_p": 1, "seed": 2**63 - 1, "max_tokens": 512, "mats": {"santa": most}},
        {"mats": {"window": 1}, "stop": ["x" * 100] * 4, "user": "x" * 256},
    ):
        assert post_chat(client, **body).status_code == 200


@pytest.mark.parametrize("kind", ["mp4", "wma", "amr", "caf", "3gp", "mka", "au", "audio/x-wav", "WAV"])
def test_a_format_is_a_hint(client, kind):
    sound = {"type": "input_audio", "input_audio": {**SOUND["input_audio"], "format": kind}}

    assert post_chat(client, messages=message(sound)).status_code == 200


@pytest.mark.parametrize(
    "name",
    ["audio", "functions", "function_call", "parallel_tool_calls", "service_tier", "reasoning_effort",
     "prediction", "web_search_options", "mats", "stream", "stream_options", "metadata", "user", "model"],
)  # fmt: skip
def test_null_counts_as_absent(client, name):
    assert post_chat(client, **{name: None}).status_code == 200


def test_null_within_a_message_counts_as_absent(client):
    parts = [{**SOUND, "text": None}, {**QUESTION, "input_audio": None, "cache_control": None}]
    one = {"role": "user", "content": parts, "tool_calls": None, "name": None}

    assert post_chat(client, messages=[one], mats={"santa": None, "window": None}).status_code == 200
    error_of(post_chat(client, messages=None), 422, "missing_field", param="messages")


def test_a_model_that_was_replaced_meanwhile_does_not_answer_for_the_one_named(client, answerer):
    assert post_chat(client, model="toy-0123").status_code == 200
    answerer.card = replace(CARD, id="toy-next", version="2")

    for stream in (False, True):
        late = post_chat(client, model="toy-0123", stream=stream)
        error_of(late, 404, "model_not_found", param="model")
    assert post_chat(client, model="toy-next").json()["model"] == "toy-next"
    assert post_chat(client).json()["model"] == "toy-next"


def test_parameters_without_effect_may_be_sent(client):
    neutral = {"n": 1, "frequency_penalty": 0, "logprobs": False, "tools": None, "user": "me", "stop": None}

    assert post_chat(client, **neutral, modalities=["text"]).status_code == 200


def test_another_model_is_404(client):
    error_of(post_chat(client, model="gpt-4o-audio-preview"), 404, "model_not_found", param="model")
    assert post_chat(client, model="toy-0123").status_code == 200


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "malformed_body"),
        ({"files": {"file": b"x"}}, 415, "not_json"),
        ({}, 415, "not_json"),
    ],
    ids=["broken", "form", "nothing"],
)
def test_a_body_that_is_no_json_is_refused(client, request_, status, code):
    response = client.post(CHAT, **request_)

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
