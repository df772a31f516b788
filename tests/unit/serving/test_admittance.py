"""Keys and rates as a client meets them."""

import pytest

from tests.unit.serving.test_app import CAPTIONS, CLIP, error_of


@pytest.fixture
def keyed(make_client, tmp_path):
    file = tmp_path / "keys"
    file.write_text("alice:secret-one\nbob:secret-two")
    return lambda **config: make_client(api_keys_file=str(file), **config)


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "headers", [{}, bearer("wrong-one"), bearer(""), {"Authorization": "Basic secret-one"}], ids=str
)
def test_without_a_key_nothing_answers(keyed, headers):
    client = keyed()

    for response in (
        client.post(CAPTIONS, files=CLIP, headers=headers),
        client.get("/v1/models", headers=headers),
        client.get("/metrics", headers=headers),
    ):
        assert error_of(response, 401, "unauthorized")["type"] == "authentication_error"
        assert response.headers["www-authenticate"] == "Bearer"


def test_with_a_key_it_answers_and_health_needs_none(keyed):
    client = keyed()

    assert client.post(CAPTIONS, files=CLIP, headers=bearer("secret-two")).status_code == 200
    for path in ("/health", "/", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200


def test_a_key_that_asks_too_often_waits_and_the_other_does_not(keyed):
    client = keyed(requests_per_minute=2)

    replies = [client.post(CAPTIONS, files=CLIP, headers=bearer("secret-one")) for _ in range(3)]

    assert [reply.status_code for reply in replies] == [200, 200, 429]
    error_of(replies[2], 429, "rate_limited")
    assert 1 <= int(replies[2].headers["retry-after"]) <= 30
    assert client.post(CAPTIONS, files=CLIP, headers=bearer("secret-two")).status_code == 200
