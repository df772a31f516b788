"""OpenAI's own client, unmodified, against the app."""

import base64

import httpx
import openai
import pytest

SOUND = base64.b64encode(b"seconds:2").decode()
MESSAGES = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "Is there a dog?"},
            {"type": "input_audio", "input_audio": {"data": SOUND, "format": "wav"}},
        ],
    }
]


class ThroughTestClient(httpx.BaseTransport):
    """Hands what the client sends to the app."""

    def __init__(self, client):
        self._client = client

    def handle_request(self, request):
        response = self._client.request(
            request.method, request.url.path, content=request.read(), headers=dict(request.headers)
        )
        headers = {k: v for k, v in response.headers.items() if k != "content-length"}
        return httpx.Response(response.status_code, headers=headers, content=response.content)


@pytest.fixture
def openai_client(client):
    http = httpx.Client(transport=ThroughTestClient(client))
    return openai.OpenAI(base_url="http://testserver/v1", api_key="none", http_client=http, max_retries=0)


def test_it_gets_an_answer(openai_client):
    completion = openai_client.chat.completions.create(
        model="mats", messages=MESSAGES, max_tokens=9, extra_body={"mats": {"profile": "fast"}}
    )

    assert completion.choices[0].message.content == "Is there a dog? 2"
    assert completion.usage.total_tokens == 43


def test_it_streams_an_answer(openai_client):
    chunks = list(
        openai_client.chat.completions.create(
            model="mats", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Is there a dog? 2"
    assert chunks[-1].usage.completion_tokens == 3


def test_it_lists_models_and_understands_refusals(openai_client, encoder, answerer):
    assert [model.id for model in openai_client.models.list()] == ["toy-0123"]
    with pytest.raises(openai.NotFoundError, match="there is 'toy-0123'"):
        openai_client.chat.completions.create(model="other", messages=MESSAGES)
    with pytest.raises(openai.UnprocessableEntityError, match="n is not supported"):
        openai_client.chat.completions.create(model="mats", messages=MESSAGES, n=2)
    answerer.error = RuntimeError("midway")
    with pytest.raises(openai.APIError, match="failed to answer"):
        list(openai_client.chat.completions.create(model="mats", messages=MESSAGES, stream=True))
