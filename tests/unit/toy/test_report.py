"""The demo's report: correct verdicts, complete in one file, safe whatever a model generates."""

import base64
import copy
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mats_ray.toy.report import (
    MEASURES,
    SYSTEMS,
    ReportClip,
    ReportContent,
    contradictions,
    results_table,
    write_report,
)
from tests.architecture.source import run_python

SHARES = dict(zip(SYSTEMS, (0.915, 0.880, 0.700, 0.610, 0.955, 0.990, 0.015), strict=True))
"""As the paper would have them."""
VOID = {"meta", "link", "br"}
PLANTED = "<script>alert('planted')</script>"


def metrics_with(**changes):
    """Metrics as the paper would have them; a change sets both measures of a system."""
    shares = {**SHARES, **changes}
    return {
        "systems": {
            name: {**dict.fromkeys(MEASURES, share), "num_clips": 200} for name, share in shares.items()
        },
        "modality_gap": {"before": 0.612, "after_santa": 0.401},
        "wall_seconds": {"train": 141.8, "compare": 83.0, "total": 224.8},
        "peak_memory_gb": 4.213,
        "versions": {"ray": "2.60.0", "torch": "2.13.0"},
    }


def content_in(folder: Path, *, text="a dog barks", num_clips=10):
    """A report whose every free text is ``text``."""
    clips = []
    for index in range(num_clips):
        path = folder / f"{index:04d}.wav"
        soundfile.write(path, np.random.default_rng(index).uniform(-1, 1, 64_000), 16_000, subtype="PCM_16")
        clips.append(
            ReportClip(path, text, text, index > 0, ((text, text, text, True), (text, text, text, False)))
        )
    points_NC = np.random.default_rng(0).normal(size=(40, 8))
    metrics = metrics_with()
    metrics["wall_seconds"][text] = 1.0
    metrics["versions"][text] = text
    curves = {
        text: [{"step": 1, "loss": 3.0, "samples_per_s": 10}, {"step": 2, "loss": 1.0, "samples_per_s": 12}]
    }
    return ReportContent(metrics, curves, points_NC, points_NC + 1, points_NC + 0.5, tuple(clips))


class Page(HTMLParser):
    """Elements with their attributes, and the text between them; refuses badly nested elements."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self._open = [], "", []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def values(self, attribute):
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(folder / "report.html", content_in(folder, text=PLANTED))
    return folder / "report.html"


@pytest.fixture(scope="module")
def page(written):
    return Page(written.read_text("utf-8"))


def test_the_table_lists_every_system_in_order():
    lines = results_table(metrics_with()).splitlines()

    assert lines[0].split("  ")[-2:] == ["caption names all sounds", "questions right"]
    assert [line.rsplit(maxsplit=2) for line in lines[2:9]] == [
        [label, f"{SHARES[name]:.3f}", f"{SHARES[name]:.3f}"] for name, label in SYSTEMS.items()
    ]


@pytest.mark.parametrize(
    ("captions", "questions", "expected"),
    [
        (0.85, 0.80, "meets both bars"),
        (0.8499, 0.80, "misses one of its two bars"),
        (0.90, 0.79, "misses one of its two bars"),
        (0.10, 0.10, "misses both bars"),
        (float("nan"), 0.80, "misses one of its two bars"),
    ],
)
def test_the_table_closes_with_whether_the_method_meets_its_bars(captions, questions, expected):
    metrics = metrics_with()
    metrics["systems"]["text_noise_santa"].update(caption_all_sounds=captions, questions_right=questions)

    assert expected in results_table(metrics).splitlines()[-1]


def test_a_share_just_below_its_bar_does_not_look_like_the_bar():
    table = results_table(metrics_with(text_noise_santa=0.84996))

    assert "0.849" in table
    assert "0.850" not in table


def test_a_share_of_a_thousand_is_shown_as_it_is():
    table = results_table(metrics_with(text_noise_santa=0.29, text_noise=0.57, text_santa=0.115))

    assert all(shown in table for shown in ("0.290", "0.570", "0.115"))


def test_numbers_as_in_the_paper_contradict_nothing():
    assert contradictions(metrics_with()) == []


@pytest.mark.parametrize(
    ("changes", "sentence", "numbers"),
    [
        ({"text_santa": 0.93}, "Noise does not help (with Santa)", ("0.915", "0.930")),
        ({"text_only": 0.89, "text_santa": 0.9}, "Noise does not help (without Santa)", ("0.880", "0.890")),
        ({"text_noise": 0.915}, "Santa does not help (with noise)", ("0.915", "0.915")),
        ({"text_only": 0.71}, "Santa does not help (without noise)", ("0.700", "0.710")),
        ({"audio_supervised": 0.9}, "Training on audio is no ceiling", ("0.900", "0.915")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_claim_that_fails_is_named_with_its_numbers_for_both_measures(changes, sentence, numbers):
    found = contradictions(metrics_with(**changes))

    assert len(found) == len(MEASURES)
    for label, line in zip(MEASURES.values(), found, strict=True):
        assert line.startswith(sentence)
        assert label in line
        assert tuple(re.findall(r"\d\.\d{3}", line)) == numbers


@pytest.mark.parametrize("after", [0.612, 0.7])
def test_a_gap_that_santa_does_not_narrow_is_named(after):
    metrics = metrics_with()
    metrics["modality_gap"]["after_santa"] = after

    assert contradictions(metrics) == [
        f"Santa does not narrow the modality gap: 0.612 before and {after:.3f} after."
    ]


def test_a_contradiction_is_in_the_page(tmp_path):
    content = content_in(tmp_path, num_clips=1)
    content.metrics["modality_gap"]["after_santa"] = 0.7

    write_report(tmp_path / "report.html", content)

    assert "does not narrow the modality gap: 0.612" in Page((tmp_path / "report.html").read_text()).text


def test_the_page_needs_nothing_from_anywhere_else(written, page):
    references = [*page.values("src"), *page.values("href"), *page.values("xlink:href")]

    assert all(reference.startswith(("data:", "#")) for reference in references)
    assert "://" not in written.read_text("utf-8")


def test_no_text_becomes_an_element(page):
    assert "script" not in {tag for tag, _ in page.elements}
    assert page.text.count(PLANTED) >= 10 * 8


def test_every_id_is_there_once_and_every_label_finds_its_own(page):
    ids = page.values("id")

    assert len(ids) == len(set(ids))
    assert {*page.values("aria-labelledby")} <= {*ids}


def test_every_clip_can_be_played(written, page):
    sources = [attributes["src"] for tag, attributes in page.elements if tag == "audio"]

    embedded = [base64.b64decode(source.removeprefix("data:audio/wav;base64,")) for source in sources]
    assert embedded == [path.read_bytes() for path in sorted(written.parent.glob("*.wav"))]
    assert all("controls" in attributes for tag, attributes in page.elements if tag == "audio")


def test_right_and_wrong_are_words(page):
    assert len(re.findall(r"\N{CHECK MARK}\sright", page.text)) == 9 + 10
    assert len(re.findall(r"\N{BALLOT X}\swrong", page.text)) == 1 + 10


def test_the_page_shows_every_number(page):
    for shown in (
        "0.612",
        "0.401",
        "34% less",
        "2 min 22 s",
        "3 min 45 s",
        "4.21 GB",
        "2.60.0",
        "9 of 10 captions",
    ):
        assert shown in page.text, shown


def test_the_page_contains_no_path(written):
    assert str(written.parent) not in written.read_text("utf-8")


def test_the_page_is_small_enough_to_send(written):
    assert written.stat().st_size < 5_000_000


def test_writing_leaves_the_metrics_as_they_are(tmp_path):
    content = content_in(tmp_path, num_clips=0)
    before = copy.deepcopy(content.metrics)

    write_report(tmp_path / "report.html", content)

    assert content.metrics == before


def test_the_table_needs_no_plotting_library():
    loaded = run_python("import sys, mats_ray.toy.report; print(*sys.modules, sep='\\n')")

    assert "matplotlib" not in loaded
