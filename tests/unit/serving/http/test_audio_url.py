"""Fetching from an allowed host, and from no other, after redirects as well."""

import asyncio

import pytest
from aiohttp import web

from mats_ray.serving.budgets import Budget, memory_share
from mats_ray.serving.errors import RequestError
from mats_ray.serving.http.audio_url import AudioURLs


def answer(**response):
    """Return a handler that always sends this response."""

    async def handler(_request):
        return web.Response(**response)

    return handler


def fetch(path, *, allowed=None, max_bytes=100):
    """Run a small server, fetch from it."""

    async def scenario():
        app = web.Application()
        app.router.add_get("/ok", answer(body=b"sound"))
        app.router.add_get("/large", answer(body=b"x" * 101))
        app.router.add_get("/again", answer(status=302, headers={"Location": "/ok"}))
        app.router.add_get("/loop", answer(status=302, headers={"Location": "/loop"}))
        inside = {"Location": "http://169.254.169.254/latest/meta-data"}
        app.router.add_get("/inside", answer(status=307, headers=inside))
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host = f"127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        files = AudioURLs([host] if allowed is None else allowed, max_bytes=max_bytes, timeout_seconds=10)
        try:
            return await files.fetch(f"http://{host}{path}")
        finally:
            await runner.cleanup()

    return asyncio.run(scenario())


def test_an_allowed_host_may_redirect_to_itself():
    assert fetch("/ok") == fetch("/again") == b"sound"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/inside", "does not fetch from"),
        ("/loop", "redirects more than"),
        ("/gone", "says 404"),
        ("/large", "larger than 100"),
    ],
)
def test_a_forbidden_or_missing_file_is_refused(path, message):
    with pytest.raises(RequestError, match=message):
        fetch(path)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x",
        "ftp://good.example/x",
        "file:///etc/passwd",
        "http://user@good.example/x",
        "http://good.example:8080/x",
        "http://good.example.evil.example/x",
        "http://[::1/x",
        "//good.example/x",
    ],
)
def test_urls_that_are_not_allowed_are_refused_unfetched(url):
    files = AudioURLs(["good.example"], max_bytes=1, timeout_seconds=1)

    with pytest.raises(RequestError):
        asyncio.run(files.fetch(url))


def test_without_a_list_nothing_is_fetched():
    with pytest.raises(RequestError, match="does not fetch"):
        fetch("/ok", allowed=[])


def test_a_fetched_file_counts_as_memory_of_its_request():
    with memory_share(Budget(100, "bytes")) as share:
        assert fetch("/ok") == b"sound"
        assert share.held == 2 * len(b"sound")
        with pytest.raises(RequestError, match="needs 212 bytes or more"):
            fetch("/large", max_bytes=1000)
