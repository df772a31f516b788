"""Validation of text and numbers: JSON bodies and forms of any bytes, through the app."""

import json

import pytest
from fastapi import HTTPException

from mats_ray.serving.http.validation import MAX_DEPTH, without_nulls
from tests.unit.serving.http.test_app import CAPTIONS, CLIP, QUESTIONS, error_of
from tests.unit.serving.http.test_chat_routes import CHAT, QUESTION, SOUND, message, post_chat

HALF = "\ud83d"
JSON = {"content-type": "application/json"}


def send(client, body):
    """Send a body as ``json.dumps`` escapes it: half a pair, NaN and all."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(CHAT, content=content, headers=JSON)


def chat(**more):
    return {"model": "mats", "messages": message(SOUND, QUESTION)} | more


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (chat(messages=message(SOUND, {"type": "text", "text": HALF})), "messages[0].content[1].text"),
        (chat(messages=[{"role": "user", "content": HALF}]), "messages[0].content"),
        (chat(messages=[{"role": HALF, "content": "x"}]), "messages[0].role"),
        (chat(model=HALF), "model"),
        (chat(user="a" + HALF), "user"),
        (chat(metadata={"a": HALF}), "metadata.a"),
        (chat(metadata={HALF: "a"}), "a field's name in metadata"),
        (chat(stop=["a", HALF]), "stop[1]"),
        (chat(mats={"profile": HALF}), "mats.profile"),
        (chat(**{HALF: 1}), "a field's name in the body"),
        (
            chat(messages=message({"type": "input_audio", "input_audio": {"data": "AAAA", "format": HALF}})),
            "messages[0].content[0].input_audio.format",
        ),
        (chat(messages=message({"type": "audio_url", "audio_url": {"url": HALF}})), ".audio_url.url"),
        (HALF, "the body"),
        (json.dumps(chat(user="X")).encode().replace(b"X", b"\xed\xa0\xbd"), "user"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isascii() else "",
)
def test_half_a_surrogate_pair_is_refused_with_its_place(client, body, where):
    error = error_of(send(client, body), 422, "invalid_field")

    assert where in error["message"]
    assert "half of a surrogate pair" in error["message"]


def test_a_whole_pair_is_text(client):
    body = send(client, chat(messages=message(SOUND, {"type": "text", "text": "Is it \U0001f600?"}))).json()

    assert body["choices"][0]["message"]["content"] == "Is it \U0001f600? 2"


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
@pytest.mark.parametrize("field", ["temperature", "top_p", "n", "seed", "frobnicate"])
def test_a_number_that_is_not_finite_is_refused_wherever_it_stands(client, number, field):
    body = json.dumps(chat()).encode()[:-1] + b', "%s": %s}' % (field.encode(), number)

    assert field in error_of(send(client, body), 422, "invalid_field")["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 900 + b"]" * 900,
        b"[" * 100_000,
        b'{"messages":' * 900 + b"1" + b"}" * 900,
        b"[" + b"{}," * 100_000 + b"{}]",
        b'{"n": ' + b"9" * 5000 + b"}",
        b'{"seed": ' + b"9" * 4000 + b"}",
        b"\xff\xfe",
        b'"text"',
        b"null",
        b"[]",
        b"",
    ],
    ids=lambda body: f"{body[:12]!r} of {len(body)}",
)
def test_a_body_of_any_shape_is_one_short_refusal(client, body):
    response = send(client, body)

    assert response.status_code in {400, 413, 415, 422}, response.text
    assert len(response.json()["error"]["message"]) < 300


def test_containers_are_nested_so_deep_and_no_deeper():
    deep = 0
    for _ in range(MAX_DEPTH):
        deep = [deep]

    assert without_nulls(deep) == deep
    with pytest.raises(HTTPException, match="nested deeper than"):
        without_nulls([deep])


def test_fields_that_are_null_are_left_out_and_items_are_not():
    assert without_nulls({"a": None, "b": [None, {"c": None}], "d": 0}) == {"b": [None, {}], "d": 0}


@pytest.mark.parametrize(
    "question", [b"\xff", b"\xed\xa0\xbd", b"caf\xe9"], ids=["no byte of it", "half a pair", "Latin-1"]
)
@pytest.mark.parametrize("charset", ["", "; charset=utf-7", "; charset=latin-1", "; charset=undefined"])
def test_a_form_that_is_not_utf8_is_refused_not_guessed(client, question, charset):
    error = error_of(post_form(client, question=question, charset=charset), 422, "invalid_field")

    assert "'question'" in error["message"]


def test_a_forms_text_arrives_as_it_was_sent(client):
    body = post_form(client, question="Is it café \U0001f600?".encode(), charset="; charset=utf-16").json()

    assert body["text"] == "Is it café \U0001f600? 2"


def test_a_field_name_that_is_not_utf8_is_refused(client):
    error_of(post_form(client, question=b"?", name=b"\xff"), 422, "invalid_field")


def test_a_file_name_of_any_bytes_does_not_matter(client):
    assert post_form(client, question=b"?", file_name=b"\xed\xa0\xbd\xff.wav").status_code == 200


def test_a_field_without_effect_is_refused_by_name(client):
    for url in (CAPTIONS, "/v1/audio/embeddings"):
        error = error_of(
            client.post(url, files=CLIP, data={"windw": "5"}), 422, "invalid_field", param="windw"
        )
        assert "windw = '5'" in error["message"]
        assert "window" in error["message"]
    other_routes = client.post(CAPTIONS, files=CLIP, data={"question": "?"})
    error_of(other_routes, 422, "invalid_field", param="question")
    error_of(client.post(CAPTIONS, files={**CLIP, "other": b"x"}), 422, "invalid_field", param="other")
    assert post_chat(client, frobnicate=1).status_code == 422


def test_a_field_that_is_sent_twice_is_refused(client):
    twice = client.post(QUESTIONS, files=CLIP, data={"question": ["Is it?", "Or not?"]})

    error_of(twice, 422, "invalid_field", param="question")


def post_form(client, *, question, charset="", name=b"question", file_name=b"a.wav"):
    """Send a form byte by byte: no client would."""
    parts = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + file_name + b'"\r\n\r\nseconds:2',
        b'\r\n--b\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + question,
        b"\r\n--b--\r\n",
    )
    headers = {"content-type": f"multipart/form-data; boundary=b{charset}"}
    return client.post(QUESTIONS, content=b"".join(parts), headers=headers)
