"""Confusion: a matrix where it can be read, else the pairs that are confused most."""

import numpy as np
import pytest

from mats_ray.evaluate.report.confusion import MAX_LABELS, NUM_PAIRS, confusion_html, most_confused
from mats_ray.evaluate.report.scores import Confusion
from tests.html import Page


def confusion_of(counts, **changes):
    labels = [f"label {n}" for n in range(len(counts))]
    return Confusion(**{"labels": labels, "counts": counts, **changes})


def diagonal(num_labels):
    return np.diag(np.full(num_labels, 9)).tolist()


def test_a_matrix_shows_every_count_under_two_headings():
    page = Page(confusion_html(confusion_of([[8, 2], [0, 7]])))

    assert page.values("scope") == ["col"] * 3 + ["row"] * 2
    assert [attributes["style"] for tag, attributes in page.elements if "style" in attributes] == [
        "--s:80",
        "--s:20",
        "--s:100",
    ]
    assert "label 0" in page.text


def test_answers_without_a_label_are_a_column_of_their_own():
    with_some = confusion_html(confusion_of([[8, 1], [0, 7]], unmatched=[1, 0]))
    with_none = confusion_html(confusion_of([[8, 1], [0, 7]], unmatched=[0, 0]))

    assert "no label" in with_some
    assert "--s:80" in with_some  # they count as samples of the label
    assert "no label" not in with_none


@pytest.mark.parametrize(("num_labels", "is_matrix"), [(MAX_LABELS, True), (MAX_LABELS + 1, False)])
def test_a_matrix_of_many_labels_becomes_pairs(num_labels, is_matrix):
    counts = diagonal(num_labels)
    counts[3][5] = 4

    html = confusion_html(confusion_of(counts))

    assert ("matrix" in html) == is_matrix
    assert ("4 of 13" in html) != is_matrix


def test_pairs_are_in_the_order_of_their_counts_and_never_right_ones():
    counts = [[50, 1, 0], [7, 50, 1], [0, 3, 50]]

    assert most_confused(confusion_of(counts)) == [(1, 0), (2, 1), (0, 1), (1, 2)]


def test_only_the_most_confused_pairs_are_listed():
    counts = (np.arange(50 * 50).reshape(50, 50) + 1).tolist()

    pairs = most_confused(confusion_of(counts))

    assert len(pairs) == NUM_PAIRS
    assert pairs[0] == (49, 48)


def test_a_matrix_without_confusion_says_so():
    assert "No label was taken for another" in confusion_html(confusion_of(diagonal(60)))


def test_a_label_is_text():
    hostile = confusion_of([[1]], labels=["<script>"])

    assert "<script>" not in confusion_html(hostile)
    assert "<script>" not in confusion_html(
        confusion_of([[1, 2], [0, 1]], labels=["<script>"] * 2), matrix=False
    )
