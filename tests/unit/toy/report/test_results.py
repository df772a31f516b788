"""The demo's numbers in words."""

import re

import pytest

from mats_ray.toy.report.results import (
    MEASURES,
    METHOD,
    SYSTEMS,
    TEST_SETS,
    against_five_seeds,
    comparisons,
    contradictions,
    gap_lines,
    results_table,
)
from tests.architecture.source import run_python
from tests.unit.toy.report.metrics import SHARES, metrics_with


def test_the_table_lists_every_system_in_order_with_errors():
    lines = results_table(metrics_with()).splitlines()

    assert [line[: len(label)] for line, label in zip(lines[2:], SYSTEMS.values(), strict=True)] == [
        *SYSTEMS.values()
    ]
    for line, value in zip(lines[2:], SHARES.values(), strict=True):
        assert line.count(f"{value:.3f} +- 0.020") == len(TEST_SETS) * len(MEASURES)


def test_the_table_of_a_demo_without_comparisons_has_what_there_is():
    metrics = metrics_with()
    metrics["systems"] = {name: {"read": metrics["systems"][name]["read"]} for name in (METHOD, "text_noise")}

    table = results_table(metrics)

    assert "novel" not in table
    assert len(table.splitlines()) == 4


def test_what_noise_and_santa_bring_has_its_interval():
    assert comparisons(metrics_with()) == [
        "Santa brings: captions +0.035 (+0.005 to +0.065), questions +0.035 (+0.005 to +0.065)",
        "noise brings: captions +0.215 (+0.185 to +0.245), questions +0.215 (+0.185 to +0.245)",
    ]
    metrics = metrics_with()
    del metrics["method_minus"]["text_santa"]
    assert len(comparisons(metrics)) == 1


def test_the_gap_stands_beside_what_is_published():
    first = gap_lines(metrics_with())[0]

    assert "0.45" in first
    assert "0.3 to 0.6" in first


@pytest.mark.parametrize(("value", "verdict"), [(0.915, "as expected"), (0.80, "not as expected")])
def test_a_result_is_compared_with_what_five_seeds_lead_to_expect(value, verdict):
    one = {"mean": 0.92, "error": 0.009, "deviation": 0.02}
    known = {"seeds": [0, 1, 2, 3, 4], "systems": {METHOD: {"read": dict.fromkeys(MEASURES, one)}}}

    lines = against_five_seeds(metrics_with(text_noise_santa=value), known)

    assert len(lines) == len(MEASURES)
    assert all(f": {verdict}; five seeds gave 0.920 +- 0.009" in line for line in lines)
    assert re.search(r"between 0\.86 and 0\.98$", lines[0])


def test_without_a_page_of_five_seeds_nothing_is_compared():
    assert against_five_seeds(metrics_with(), None) == []


def test_numbers_as_in_the_paper_contradict_nothing():
    assert contradictions(metrics_with()) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"text_santa": 0.93}, "Noise does not help"),
        ({"text_noise": 0.915}, "Santa does not help"),
        ({"audio_supervised": 0.7}, "Training on audio is no ceiling"),
    ],
)
def test_a_claim_that_fails_is_named_for_both_sets_and_measures(changes, sentence):
    found = contradictions(metrics_with(**changes))

    assert len(found) == len(MEASURES) * len(TEST_SETS)
    assert all(line.startswith(sentence) for line in found)


def test_a_ceiling_missed_by_chance_is_no_contradiction():
    assert contradictions(metrics_with(audio_supervised=0.90)) == []


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("centroids_after_santa", 0.95, "Santa does not bring audio nearer to text"),
        ("matching", 0.93, "outside of 0.3 to 0.6"),
        ("centroids", 0.07, "outside of 0.6"),
    ],
)
def test_a_gap_unlike_that_of_published_models_is_named(key, value, sentence):
    metrics = metrics_with()
    metrics["gap"]["read"] |= {"centroids_after_santa": 0.05} | {key: value}

    assert any(sentence in line for line in contradictions(metrics))


def test_the_table_needs_neither_torch_nor_a_plotting_library():
    loaded = run_python("import sys, mats_ray.toy.report.results; print(*sys.modules, sep='\\n')")

    assert not {"matplotlib", "torch"} & {*loaded}
