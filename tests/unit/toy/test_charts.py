"""The report's pictures: right geometry, readable by name, in the page's colours."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from mats_ray.toy.charts import MAX_POINTS, fit_plane, gap_charts, loss_chart


def clusters(num_rows=30, seed=0):
    """Text, audio and moved audio: the same scatter around centroids along one axis."""
    rng = np.random.default_rng(seed)
    offset_C = np.eye(8)[0]
    return [place * offset_C + 0.1 * rng.normal(size=(num_rows, 8)) for place in (0.0, 2.0, 1.0)]


def records(*losses):
    return [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]


@pytest.fixture(scope="module")
def before_and_after():
    return gap_charts(*clusters())


@pytest.fixture(scope="module", params=["loss", "before", "after"])
def svg(request, before_and_after):
    if request.param == "loss":
        return loss_chart({"text": records(3.0, 2.0, 1.0)})
    return before_and_after[request.param == "after"]


def test_the_plane_shows_the_direction_of_the_gap_first():
    plane = fit_plane(clusters())

    assert abs(plane.axes_2C[0, 0]) > 0.99
    assert plane.shares[0] > 0.8 > plane.shares[1]


def test_distances_along_the_gap_survive_the_projection():
    text_NC, audio_NC, moved_NC = clusters(num_rows=400)

    plane = fit_plane([text_NC, audio_NC, moved_NC])
    text, audio, moved = (plane.project(points).mean(axis=0) for points in (text_NC, audio_NC, moved_NC))

    assert np.linalg.norm(audio - text) == pytest.approx(2.0, abs=0.05)
    assert np.linalg.norm(moved - text) == pytest.approx(1.0, abs=0.05)


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


def test_the_gap_charts_share_their_axes(before_and_after):
    ticks = [re.findall(r">(\N{MINUS SIGN}?\d+\.\d+)</text>", chart) for chart in before_and_after]

    assert ticks[0] == ticks[1] != []


def test_a_large_set_is_thinned_out():
    before, _ = gap_charts(*clusters(num_rows=5 * MAX_POINTS + 1))

    assert MAX_POINTS < before.count("<use") < 2 * MAX_POINTS + 50


def test_the_same_numbers_give_the_same_bytes(before_and_after):
    assert gap_charts(*clusters()) == before_and_after
