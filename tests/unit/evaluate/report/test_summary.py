"""The top of the page: every benchmark in a row, and one model behind all of them or a warning."""

from mats_ray.evaluate.report.scores import BenchmarkScores
from mats_ray.evaluate.report.summary import provenance_html, summary_html
from tests.html import Page
from tests.unit.evaluate.report.results import measure, scores_of


def scores_with(**changes):
    return BenchmarkScores.model_validate(scores_of(**changes))


def test_a_row_has_value_error_chance_the_papers_value_and_samples():
    html = summary_html({"benchmark-1": scores_with()})

    assert '<a href="#benchmark-1">ESC-50</a>' in html
    text = Page(html).text
    for shown in (
        "0.620",
        "\N{PLUS-MINUS SIGN}\N{NO-BREAK SPACE}0.027 accuracy",
        "0.100",
        "0.88",
        "320",
        "2,000",
        "16",
    ):
        assert shown in text, shown


def test_the_papers_value_is_that_of_the_main_measure():
    html = summary_html({"a": scores_with(measures={"macro_f1": measure(0.5, n=3)})})

    assert "0.88" not in html
    assert "<td>&ndash;</td>" in html


def test_a_benchmark_without_measures_has_the_reason():
    text = Page(summary_html({"a": scores_with(measures={}, unavailable={"judge": "no verdicts"})})).text

    assert "absent no verdicts" in text


def test_what_all_benchmarks_share_is_said_once():
    html = provenance_html([scores_with(), scores_with(title="Other")])

    text = Page(html).text
    for fact in (
        "toy@abc",
        "toy-clap",
        "paper, at most 200 tokens",
        "upstream_eval",
        "torch 2.13.0",
        "42dd43b",
    ):
        assert text.count(fact) == 1, fact
    assert "different models" not in text


def test_what_differs_is_said_with_its_benchmarks():
    text = Page(provenance_html([scores_with(), scores_with(title="Other", decoding="greedy")])).text

    assert "paper, at most 200 tokens (ESC-50)" in text
    assert "greedy (Other)" in text


def test_what_only_some_benchmarks_have_is_said_with_these():
    text = Page(provenance_html([scores_with(), scores_with(title="Given", model={"id": "toy@abc"})])).text

    assert "toy-clap (ESC-50)" in text
    assert "toy@abc (" not in text


def test_results_of_different_models_are_warned_of():
    text = Page(provenance_html([scores_with(), scores_with(model={"id": "other@def"})])).text

    assert "of different models" in text


def test_dates_are_a_range():
    text = Page(provenance_html([scores_with(), scores_with(created="2026-12-01T00:00:00Z")])).text

    assert "2026-11-29T12:00:00Z to 2026-12-01T00:00:00Z" in text


def test_what_is_not_known_is_said_not_to_be_recorded():
    text = Page(provenance_html([scores_with(revision="", created="")])).text

    assert "Revisionnot recorded" in text
    assert "Datenot recorded" in text


def test_many_values_are_counted():
    text = Page(provenance_html([scores_with(revision=str(n)) for n in range(100)])).text

    assert "and 95 other values" in text
