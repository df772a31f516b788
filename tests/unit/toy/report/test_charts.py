"""The report's pictures: right geometry, readable by name, in the page's colours."""

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.image import imread

from mats_ray.toy.report.charts import (
    MAX_POINTS,
    cosine_chart,
    fit_plane,
    gap_charts,
    loss_chart,
    spectrogram,
    systems_chart,
)


def clusters(num_rows=30, seed=0):
    """Text, noised text, audio and moved audio: the same scatter around centroids along one axis."""
    rng = np.random.default_rng(seed)
    offset_C = np.eye(8)[0]
    return [place * offset_C + 0.1 * rng.normal(size=(num_rows, 8)) for place in (0.0, 0.0, 2.0, 1.0)]


def records(*losses):
    return [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]


ROWS = [
    ("the method", {"captions": (0.9, 0.02), "questions": (0.8, 0.01)}),
    ("another", {"captions": (0.5, 0.03)}),
]


@pytest.fixture(scope="module")
def gaps():
    return gap_charts(*clusters())


@pytest.fixture(scope="module", params=["loss", "plain", "santa", "cosines", "systems"])
def svg(request, gaps):
    cosines = (np.linspace(0.3, 0.6, 20), np.linspace(-0.2, 0.3, 60))
    charts = {
        "loss": lambda: loss_chart({"text": records(3.0, 2.0, 1.0)}),
        "plain": lambda: gaps[0],
        "santa": lambda: gaps[2],
        "cosines": lambda: cosine_chart(cosines, cosines),
        "systems": lambda: systems_chart(ROWS),
    }
    return charts[request.param]()


def test_the_plane_shows_the_distance_of_the_centroids_as_it_is():
    text_NC, _, audio_NC, moved_NC = clusters(num_rows=400)
    audio_NC = (
        audio_NC + 5 * np.eye(8)[3] * np.linspace(-1, 1, 400)[:, None]
    )  # varies more than they are apart

    plane = fit_plane(text_NC, audio_NC)
    text, audio, moved = (plane.project(points).mean(axis=0) for points in (text_NC, audio_NC, moved_NC))

    assert audio[0] - text[0] == pytest.approx(2.0, abs=0.05)
    assert audio[1] == pytest.approx(text[1], abs=1e-9)
    assert moved[0] == pytest.approx(1.0, abs=0.05)
    assert abs(plane.axes_2C[1, 3]) > 0.99


def test_a_gap_of_nothing_is_drawn():
    text_NC, *_ = clusters()

    assert all(chart.startswith("<svg") for chart in gap_charts(text_NC, text_NC, text_NC, text_NC))


def test_a_chart_is_one_element_with_a_description(svg):
    root = ElementTree.fromstring(svg.replace("xlink:href", "href"))

    assert root.tag == "svg"
    assert root.get("role") == "img"
    assert len(root.get("aria-label", "")) > 20


def test_a_chart_has_the_colours_of_the_page_only(svg):
    assert "var(--ink)" in svg
    assert re.findall(r"(?:fill|stroke): ?#\w+", svg) == []


def test_the_loss_chart_names_axes_and_runs():
    svg = loss_chart({"with noise": records(3.0, 1.0), "on audio": records(2.0, 1.5)})

    for text in ("training step", "loss", "with noise", "on audio"):
        assert text in svg


def test_the_name_of_a_run_is_text():
    svg = loss_chart({"<script> $x^2$": records(3.0, 1.0)})

    assert "&lt;script&gt; $x^2$" in svg


@pytest.mark.parametrize(
    "curves", [{}, {"empty": []}, {"nan": records(float("nan"), 1.0)}, {"zero": records(1.0, 0.0)}], ids=str
)
def test_an_odd_curve_is_drawn_as_far_as_it_goes(curves):
    assert loss_chart(curves).startswith("<svg")


def test_the_gap_charts_share_their_axes(gaps):
    ticks = [re.findall(r">(\N{MINUS SIGN}?\d+\.\d+)</text>", chart) for chart in gaps]

    assert ticks[0] == ticks[1] == ticks[2] != []


def test_a_large_set_is_thinned_out():
    before, *_ = gap_charts(*clusters(num_rows=5 * MAX_POINTS + 1))

    assert MAX_POINTS < before.count("<use") < 2 * MAX_POINTS + 50


def test_the_same_numbers_give_the_same_bytes(gaps):
    assert gap_charts(*clusters()) == gaps


def test_the_systems_are_named_with_what_is_measured():
    svg = systems_chart(ROWS)

    assert all(text in svg for text in ("the method", "another", "captions", "questions"))


def test_a_spectrogram_is_a_small_picture_that_shows_pitch():
    time = np.arange(64_000) / 16_000
    low, high = (spectrogram(np.sin(2 * np.pi * pitch * time).astype(np.float32)) for pitch in (300, 6_000))

    assert low.startswith(b"\x89PNG")
    assert len(low) < 60_000
    rows = [imread(io.BytesIO(png), format="png")[..., :3].sum(axis=(1, 2)).argmax() for png in (low, high)]
    assert rows[0] > 2 * rows[1]  # high is up


def test_silence_has_a_spectrogram():
    assert spectrogram(np.zeros(64_000, np.float32)).startswith(b"\x89PNG")
