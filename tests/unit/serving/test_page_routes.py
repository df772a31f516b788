"""The page's files: all there, nothing from elsewhere. What it does is in tests/integration/test_page.py."""

import re

import pytest


@pytest.mark.parametrize("path", ["/", "/docs", "/page/app.js", "/page/style.css", "/page/icon.svg"])
def test_nothing_comes_from_another_host(client, path):
    response = client.get(path)

    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.findall(r"https?://(?!www\.w3\.org)", response.text) == []


def test_everything_the_page_names_is_there(client):
    named = {
        path
        for start in ("/", "/docs", "/page/app.js", "/page/stream.js")
        for path in re.findall(r"[\"'](/page/[\w./-]+)[\"']", client.get(start).text)
    }
    examples = re.findall(r"\"([\w-]+\.ogg)\"", client.get("/page/app.js").text)

    assert len(named) >= 7
    assert len(examples) == 3
    for path in (*named, *(f"/page/examples/{name}" for name in examples)):
        assert client.get(path).status_code == 200, path


def test_what_is_no_part_of_it_is_404(client):
    for path in ("/page/", "/page/app.py", "/page/..%2f..%2fapp.py", "/page/examples"):
        assert client.get(path).status_code == 404


def test_it_can_be_left_out(make_client):
    assert make_client(page=False).get("/").status_code == 404
