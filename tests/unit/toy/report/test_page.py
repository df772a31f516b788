"""The demo's report: correct verdicts, complete in one file, safe whatever a model generates."""

import base64
import copy
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mats_ray.toy.report.page import ReportClip, ReportContent, write_report
from mats_ray.toy.report.results import SYSTEMS, TEST_SETS
from tests.html import Page
from tests.unit.toy.report.metrics import metrics_with

PLANTED = "<script>alert('planted')</script>"


def content_in(folder: Path, *, text="a dog barks", num_clips=8, metrics=None):
    """A report whose every free text is ``text``."""
    clips = []
    for index in range(num_clips):
        path = folder / f"{index:04d}.wav"
        soundfile.write(path, np.random.default_rng(index).uniform(-1, 1, 64_000), 16_000, subtype="PCM_16")
        clips.append(ReportClip(path, text, ((text, True), (text, index > 0))))
    points_NC = np.random.default_rng(0).normal(size=(40, 8))
    metrics = metrics or metrics_with()
    metrics["wall_seconds"][text] = 1.0
    metrics["versions"][text] = text
    curves = {
        text: [{"step": 1, "loss": 3.0, "samples_per_s": 10}, {"step": 2, "loss": 1.0, "samples_per_s": 12}]
    }
    return ReportContent(metrics, curves, points_NC, points_NC + 1, points_NC + 0.5, 0.005, tuple(clips))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(folder / "report.html", content_in(folder, text=PLANTED))
    return folder / "report.html"


@pytest.fixture(scope="module")
def page(written):
    return Page(written.read_text("utf-8"))


def test_a_contradiction_is_in_the_page(tmp_path):
    metrics = metrics_with(text_noise=0.95)

    write_report(tmp_path / "report.html", content_in(tmp_path, num_clips=1, metrics=metrics))

    assert "Santa does not help" in Page((tmp_path / "report.html").read_text()).text


def test_the_first_page_says_that_comparisons_are_to_come(tmp_path, page):
    metrics = metrics_with()
    for tree in (metrics["systems"], metrics["method_minus"]):
        for name in {*tree} - {"text_noise_santa", "text_noise", "text_embedding", "floor"}:
            del tree[name]
        for of in tree.values():
            del of["novel"]
    del metrics["gap"]["novel"]

    write_report(tmp_path / "report.html", content_in(tmp_path, num_clips=1, metrics=metrics))

    text = Page((tmp_path / "report.html").read_text()).text
    assert "comparisons are not there yet" in text
    assert "comparisons are not there yet" not in page.text


def test_the_page_needs_nothing_from_anywhere_else(written, page):
    references = [*page.values("src"), *page.values("href"), *page.values("xlink:href")]

    assert all(reference.startswith(("data:", "#")) for reference in references)
    assert "://" not in written.read_text("utf-8")


def test_no_text_becomes_an_element(page):
    assert "script" not in {tag for tag, _ in page.elements}
    assert page.text.count(PLANTED) >= 8 * 3


def test_every_id_is_there_once_and_every_label_finds_its_own(page):
    ids = page.values("id")

    assert len(ids) == len(set(ids))
    assert {*page.values("aria-labelledby")} <= {*ids}


def test_every_clip_can_be_played(written, page):
    sources = [attributes["src"] for tag, attributes in page.elements if tag == "audio"]

    embedded = [base64.b64decode(source.removeprefix("data:audio/wav;base64,")) for source in sources]
    assert embedded == [path.read_bytes() for path in sorted(written.parent.glob("*.wav"))]
    assert all("controls" in attributes for tag, attributes in page.elements if tag == "audio")


def test_every_clip_has_its_spectrogram(page):
    pictures = [attributes["src"] for tag, attributes in page.elements if tag == "img"]

    assert len(pictures) == len(set(pictures)) == 8
    assert all(one.startswith("data:image/png;base64,") for one in pictures)


def test_right_and_wrong_are_words(page):
    assert len(re.findall(r"\N{CHECK MARK}\sright", page.text)) == 8 + 7
    assert len(re.findall(r"\N{BALLOT X}\swrong", page.text)) == 1


def test_the_page_shows_every_number(page):
    for shown in (
        "0.45",
        "0.92",
        "0.71",
        "0.3 to 0.6",
        "2 min 22 s",
        "3 min 45 s",
        "4.21 GB",
        "2.60.0",
        "92% of the clips",
    ):
        assert shown in page.text, shown
    for label in (*SYSTEMS.values(), *TEST_SETS.values()):
        assert label in page.text


def test_the_page_contains_no_path(written):
    assert str(written.parent) not in written.read_text("utf-8")


def test_the_page_is_small_enough_to_send(written):
    assert written.stat().st_size < 5_000_000


def test_writing_leaves_the_metrics_as_they_are(tmp_path):
    content = content_in(tmp_path, num_clips=0)
    before = copy.deepcopy(content.metrics)

    write_report(tmp_path / "report.html", content)

    assert content.metrics == before
