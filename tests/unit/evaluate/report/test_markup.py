"""Pieces of HTML: nothing a text holds becomes an element, and numbers keep their digits."""

import pytest

from mats_ray.evaluate.report.markup import (
    MOST_CHARACTERS,
    bar,
    count,
    definitions,
    items,
    mark,
    number,
    published,
    style_sheet,
    table,
    text,
)
from tests.html import Page

PLANTED = """<script>alert("planted")</script>' onload='x"""


def test_a_text_is_neither_an_element_nor_the_end_of_an_attribute():
    escaped = text(PLANTED)

    assert not set("<>\"'") & set(escaped)
    assert Page(f'<p title="{escaped}">{escaped}</p>').text == PLANTED


def test_a_long_text_is_cut_before_it_is_escaped():
    shown = text("&" * 10_000)

    assert shown == "&amp;" * MOST_CHARACTERS + " ..."


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.500"), (None, "&ndash;"), (float("nan"), "not finite"), (6.43, "6.430")]
)
def test_a_measured_number_has_three_digits(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.9, "0.90"), (0.171, "0.171"), (6.43, "6.43"), (61.0, "61.00"), (None, "&ndash;")]
)
def test_a_published_number_keeps_its_digits(value, shown):
    assert published(value) == shown


def test_thousands_are_set_apart():
    assert count(15_446) == "15,446"


@pytest.mark.parametrize(
    ("share", "width"), [(0.62, "62%"), (-1.0, "0%"), (1.5, "100%"), (float("nan"), "0%")]
)
def test_a_bar_stays_within_its_cell(share, width):
    assert f"width:{width}" in bar(share)


def test_a_verdict_is_a_word_not_a_colour_alone():
    assert "right" in mark(good=True)
    assert "wrong" in mark(good=False)


def test_a_table_has_headings_in_both_directions_and_a_name():
    page = Page(table(("class", "n"), [("dog", "4")], name=PLANTED))

    assert page.values("scope") == ["col", "col", "row"]
    assert page.values("aria-label") == [PLANTED]
    assert page.values("tabindex") == ["0"]


def test_nothing_gives_no_empty_list():
    assert definitions([]) == items([]) == ""
    assert Page(items(["one"])).text == "one\n"
    assert Page(definitions([("term", "meaning")])).text == "termmeaning\n"


def test_the_style_refers_to_nothing_elsewhere():
    style = style_sheet()

    assert "prefers-color-scheme: dark" in style
    assert "url(" not in style
    assert "@import" not in style
