"""The page in a real browser: headless Chromium, driven by Playwright. The model behind it is a fake."""

import asyncio
import socket
import threading
from pathlib import Path

import pytest
import uvicorn

from mats_ray.config.serve import ServeConfig
from mats_ray.serving.decoding.pool import DecoderPool
from mats_ray.serving.http.app import make_app
from mats_ray.serving.service import AudioService
from mats_ray.serving.types import AnswerDelta
from tests.browser import SHOTS, chromium, needs_chromium
from tests.unit.serving.fakes import FakeAnswerer, FakeEncoder

EXAMPLE = Path(__file__).parents[2] / "mats_ray" / "serving" / "http" / "page" / "examples" / "dog.ogg"
KEY = "a-key-of-ours"

playwright = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is missing: pip install playwright"
)
pytestmark = needs_chromium


class SlowAnswerer(FakeAnswerer):
    """Waits at a gate before the last word."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    async def stream(self, embedding, instruction, options):
        async for piece in super().stream(embedding, instruction, options):
            yield piece
            while isinstance(piece, AnswerDelta) and not self.gate.is_set():
                await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def answerer():
    return SlowAnswerer()


@pytest.fixture(scope="module")
def site(answerer, tmp_path_factory):
    """Serve the app on a port; yields its address."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEY)
    decoder = DecoderPool(1, max_seconds=60, timeout_seconds=30, memory_bytes=2**32)
    service = AudioService(FakeEncoder(), answerer, decoder=decoder)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = make_app(service, ServeConfig(api_keys_file=str(keys)))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser():
    microphone = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with chromium(*microphone) as running:
        yield running


@pytest.fixture
def open_page(browser, site):
    """Open a page of a size; an error in its log, or a request to another host, fails the test."""
    wrong, contexts = [], []

    def open_(path="/", *, width=1100, height=900, key=KEY, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: wrong.append(line.text) if "Refused to" in line.text else None)
        page.on("request", lambda request: None if _is_ours(request.url, site) else wrong.append(request.url))
        if key:
            page.add_init_script(f"sessionStorage.setItem('key', '{key}')")
        page.goto(site + path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


def test_an_example_is_played_drawn_and_questioned(open_page, answerer):
    page = open_page()
    page.get_by_text("toy-0123").wait_for()
    assert page.get_by_role("button", name="Ask").is_disabled()

    page.get_by_role("button", name="rain, then a bell").click()
    page.get_by_role("img", name="Waveform of rain-then-bell.ogg: 4.0 seconds").wait_for()
    page.get_by_role("img", name="Spectrogram of rain-then-bell.ogg").wait_for()
    assert colours(page, "#wave") > 1
    assert colours(page, "#spectrum") > 50

    answerer.gate.clear()
    page.get_by_role("textbox", name="Question").fill("Is there a bell?")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#answer")).to_have_text("Is")  # the rest is to come
    page.screenshot(path=SHOTS / "streaming.png")
    answerer.gate.set()
    page.get_by_text("Is there a bell? 4", exact=True).wait_for()
    page.get_by_text("3 tokens in").wait_for()
    page.screenshot(path=SHOTS / "desktop.png", full_page=True)


def test_a_file_is_dropped_by_keyboard_and_described(open_page):
    page = open_page()

    page.locator("#file").set_input_files(EXAMPLE)
    page.get_by_role("img", name="Waveform of dog.ogg").wait_for()
    page.get_by_role("textbox", name="Question").press("Enter")

    page.get_by_text("Describe the following audio in a caption. 4").wait_for()


def test_a_recording_is_sent(open_page):
    page = open_page(permissions=["microphone"])

    page.get_by_role("button", name="Record").click()
    page.get_by_role("button", name="Stop", pressed=True).wait_for()
    page.wait_for_timeout(700)
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("img", name="Waveform of recording").wait_for()
    page.get_by_role("button", name="Ask").click()

    page.get_by_text("tokens in").wait_for()
    assert page.locator("#problem").text_content() == ""


def test_it_fits_a_phone_in_dark_mode(open_page):
    page = open_page(width=360, height=740, color_scheme="dark", has_touch=True)

    page.get_by_role("button", name="a siren and a dog").tap()
    page.get_by_role("img", name="Waveform of siren-and-dog.ogg").wait_for()
    page.get_by_role("button", name="Ask").tap()
    page.get_by_text("tokens in").wait_for()

    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    small = page.evaluate(
        "[...document.querySelectorAll('button, .button, select, input:not(.hidden-input)')]"
        ".filter(e => e.offsetParent && e.getBoundingClientRect().height < 40)"
        ".map(e => e.id || e.textContent)"
    )
    assert small == []
    page.screenshot(path=SHOTS / "phone.png", full_page=True)


def test_keyboard_and_screen_reader_find_everything(open_page):
    page = open_page()
    reached = set()
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))

    assert {"file", "record", "a dog", "question", "Options"} <= reached
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, select, canvas, a')]"
        ".filter(e => !(e.textContent.trim() || e.labels?.length || e.getAttribute('aria-label')))"
        ".map(e => e.outerHTML)"
    )
    assert nameless == []
    assert page.locator("[aria-live=polite]").count() == 1
    assert page.locator("html[lang]").count() == 1


def test_a_refusal_is_shown_with_the_servers_message(open_page, tmp_path):
    page = open_page()
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound at all")

    page.locator("#file").set_input_files(broken)
    page.get_by_role("button", name="Ask").click()

    page.get_by_role("alert").get_by_text("is not audio").wait_for()


def test_without_a_key_the_page_asks_for_one(open_page):
    page = open_page(key=None)
    page.get_by_role("alert").get_by_text("wants an API key").wait_for()

    page.get_by_text("Options", exact=True).click()
    page.get_by_label("API key").fill(KEY)
    page.get_by_label("API key").press("Tab")

    page.get_by_text("toy-0123").wait_for()


def test_the_documentation_needs_no_other_host(open_page):
    page = open_page("/docs")

    page.locator("main[aria-busy=false]").wait_for()
    for route in ("/v1/chat/completions", "/v1/audio/embeddings", "/readyz"):
        assert page.get_by_role("heading", name=route).count() == 1
    page.screenshot(path=SHOTS / "docs.png")


def colours(page, canvas):
    """Return the number of colours of a canvas."""
    return page.evaluate(
        "canvas => new Set(new Uint32Array(document.querySelector(canvas).getContext('2d')"
        ".getImageData(0, 0, 1200, 150).data.buffer)).size",
        canvas,
    )


def _is_ours(url, site):
    return url.startswith((site, "blob:", "data:"))
