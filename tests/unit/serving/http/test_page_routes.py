"""The page's files: all there, nothing from elsewhere. What it does is in tests/integration/test_page.py."""

import re
from urllib.parse import urljoin

import pytest

LINK = re.compile(r"(?:href=|src=|from )\"([^\"]+)\"")


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
        urljoin(start, link)
        for start in ("/", "/docs", "/page/app.js", "/page/stream.js")
        for link in LINK.findall(client.get(start).text)
    }
    examples = re.findall(r"\"([\w-]+\.ogg)\"", client.get("/page/app.js").text)

    assert named >= {"/", "/docs", "/openapi.json", "/page/app.js", "/page/audio.js", "/page/docs.js"}
    assert len(examples) == 3
    for path in (*named, *(f"/page/examples/{name}" for name in examples)):
        assert client.get(path).status_code == 200, path


@pytest.mark.parametrize("path", ["/", "/docs", "/page/app.js", "/page/stream.js", "/page/docs.js"])
def test_no_link_leads_out_of_a_prefix(client, path):
    text = client.get(path).text

    assert re.findall(r"(?:href|src)=[\"']/|(?:from |fetch\()[\"'`]/", text) == []


def test_the_prefix_without_a_slash_leads_to_the_page(prefixed):
    found = prefixed.get("/mats", follow_redirects=False)

    assert (found.status_code, found.headers["location"]) == (307, "./mats/")
    assert prefixed.get("/mats").text == prefixed.get("/mats/").text
    assert prefixed.get("/mats/docs").status_code == 200
    assert prefixed.get("/mats/openapi.json").json()["servers"] == [{"url": "/mats"}]


def test_an_unknown_part_is_404(client):
    for path in ("/page/", "/page/app.py", "/page/..%2f..%2fapp.py", "/page/examples"):
        assert client.get(path).status_code == 404


def test_it_can_be_left_out(make_client):
    assert make_client(page=False).get("/").status_code == 404
