"""The page in a real browser: it fits a phone and a desktop, logs no error, plays audio beside it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mats_ray.evaluate.report.page import write_report
from tests.browser import SHOTS, chromium, needs_chromium
from tests.unit.evaluate.report.results import measure, sample, scores_of, write_results

pytestmark = needs_chromium
VIEWS = [(390, "dark"), (1280, "light")]


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page of one benchmark with a wide matrix, long words and audio in a folder that is hard to name."""
    folder = tmp_path_factory.mktemp("eval")
    audio = folder / "clips #1 é?"
    audio.mkdir()
    rows = []
    for n in range(24):
        path = audio / f"clip {n:02d} 100%.wav"
        soundfile.write(path, np.random.default_rng(n).uniform(-0.1, 0.1, 8_000), 16_000)
        rows.append(sample(f"{'unbroken' * 9}{n:02d}", score=float(n % 2), audio=str(path), answer="m" * 300))
    labels = [f"label_without_a_space_{n}" for n in range(40)]
    counts = np.random.default_rng(0).integers(0, 9, (40, 40)).tolist()
    counts[:2] = np.eye(40, dtype=int)[[0, 0]].tolist()  # cells of the deepest tints
    results = {name: {"MATS-LLaMA": 0.5, "x" * 60: 0.25} for name in ("accuracy", *map(str, range(8)))}
    scores = scores_of(
        measures={name: measure(0.62, n=24) for name in ("accuracy", *("measure" * n for n in range(2, 8)))},
        confusion={"labels": labels, "counts": counts, "unmatched": [0] * 40},
        per_class={label: {"value": 0.5, "n": 2} for label in labels},
        results=results,
        note="https://example.org/" + "a" * 200,
    )
    write_results(folder / "out", scores, rows)
    return Path(write_report(str(folder / "out")))


@pytest.fixture
def open_page(browser, report):
    """Open the page; an error, a warning or a request that fails or leaves the disk fails the test."""
    wrong, contexts = [], []

    def open_(width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: wrong.append(line.text))
        page.on("requestfailed", lambda request: wrong.append(request.url))
        page.on("request", lambda request: wrong.append(request.url) if _is_elsewhere(request.url) else None)
        page.goto(report.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_nothing_is_wider_than_the_screen(open_page, width, scheme):
    page = open_page(width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.body.scrollWidth") <= width
    page.screenshot(path=SHOTS / f"evaluation-{width}-{scheme}.png", full_page=True)


def test_every_sample_has_a_player_that_plays(open_page):
    page = open_page()

    assert page.locator("audio").count() == 20
    durations = page.evaluate(
        "Promise.all([...document.querySelectorAll('audio')].map(async one => {"
        " one.muted = true; await one.play(); return one.duration }))"
    )
    assert durations == [0.5] * 20


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_letters_stand_out_from_what_is_behind_them(open_page, width, scheme):
    page = open_page(width, scheme)

    assert page.evaluate(CONTRASTS) == []


def test_keyboard_and_screen_reader_find_everything(open_page):
    page = open_page()

    nameless = page.evaluate(
        "[...document.querySelectorAll('audio, [role=region], a, summary, section')]"
        ".filter(e => !(e.textContent.trim() || e.getAttribute('aria-label'))).map(e => e.outerHTML)"
    )
    stuck = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(e => e.tabIndex !== 0).map(e => e.outerHTML)"
    )
    headless = page.evaluate(
        "[...document.querySelectorAll('table')].filter(e => !e.querySelector('th[scope=col]')).length"
    )
    assert (nameless, stuck, headless) == ([], [], 0)
    assert page.locator("html[lang=en]").count() == 1


def test_a_link_of_the_summary_leads_to_its_section(open_page):
    page = open_page()

    page.get_by_role("link", name="ESC-50").click()

    assert page.evaluate("document.querySelector(':target').textContent") == "ESC-50"


def _is_elsewhere(url):
    return not url.startswith(("file:", "data:"))


CONTRASTS = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const layered = colours => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const low = new Set();
  for (const one of document.querySelectorAll("main *, header *")) {
    if (![...one.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const behind = [];
    for (let e = one; e; e = e.parentElement) behind.unshift(getComputedStyle(e).backgroundColor);
    const [a, b] = [layered([...behind, getComputedStyle(one).color]), layered(behind)].map(luminance);
    const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (contrast < 4.5) low.add(`${one.tagName}.${one.className} ${contrast.toFixed(2)}`);
  }
  return [...low];
}
"""
