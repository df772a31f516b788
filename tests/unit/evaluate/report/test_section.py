"""One benchmark's section: nothing blank, nothing silently left out."""

import pytest

from mats_ray.evaluate.report.samples import ShownSample, ShownSamples
from mats_ray.evaluate.report.scores import BenchmarkScores
from mats_ray.evaluate.report.section import EXTENTS, BenchmarkResult, missing_text, section_html
from tests.html import Page
from tests.unit.evaluate.report.results import PROMPT, measure, sample, scores_of

FULL, SHORT, BRIEF = EXTENTS


def scores_with(**changes):
    return BenchmarkScores.model_validate(scores_of(**changes))


def html_of(*, shown=None, extent=FULL, is_only=True, **changes):
    result = BenchmarkResult(scores=scores_with(**changes), shown=shown)
    return section_html(result, "out", anchor="benchmark-1", extent=extent, is_only=is_only)


def page_of(**options):
    return Page(html_of(**options))


def shown_samples(num_each=10, **changes):
    row = sample("clip", **changes)
    del row["status"]
    one = ShownSample(**row)
    return ShownSamples(are_right_or_wrong=True, worst=[one] * num_each, best=[one] * num_each)


def counts_with(**changes):
    return {**scores_of()["samples"], **changes}


def test_facts_note_and_prompt_are_shown():
    text = page_of().text

    for fact in (
        "ESC-50",
        "Piczak, 2015",
        "all five folds",
        "CC BY-NC 3.0",
        "version 1",
        "fewer classes",
        PROMPT,
    ):
        assert fact in text, fact


def test_a_measure_has_value_error_interval_samples_and_chance():
    html = html_of()

    row = "<strong>0.620</strong> &plusmn; 0.027 <small>0.570 to 0.670</small></td><td>320</td><td>0.100</td>"
    assert row in html


def test_published_rows_stand_below_ours_and_chance_below_them():
    html = html_of(results={"accuracy": {"CLAP": 0.83, "MATS-LLaMA": 0.88}})
    table = html.split("Beside published results")[1].split("</table>")[0]

    order = [table.index(name) for name in ("<strong>toy@abc</strong>", "CLAP", "MATS-LLaMA", "chance")]
    assert order == sorted(order)
    assert "<td>0.88</td>" in table


def test_a_measure_that_a_paper_lacks_has_a_dash():
    html = html_of(results={"accuracy": {"CLAP": 0.83}, "macro_f1": {"LTU": 0.5}})

    assert "CLAP</th><td>0.83</td><td>&ndash;</td>" in html


def test_an_absent_measure_has_its_reason_and_no_blank():
    html = html_of()

    assert "spice is absent: there is no Java" in Page(html).text
    assert "<td>absent</td>" in html


def test_a_published_measure_that_was_not_computed_is_absent_too():
    text = page_of(results={"fense": {"MATS-LLaMA": 0.5}}, unavailable={}).text

    assert "fense is absent: it was not computed" in text


def test_without_any_measure_the_reasons_are_there():
    text = page_of(measures={}, unavailable={"judge": "no verdicts"}, per_class={}, confusion=None).text

    assert "judge is absent: no verdicts" in text


def test_without_published_results_that_is_said():
    assert "No published results are known" in page_of(results={}).text


def test_fewer_samples_than_published_are_said_beside_published_results():
    sentence = "Scored on 320 samples; the published results are over 2,000."

    assert sentence in page_of().text
    assert sentence[:15] not in page_of(samples=counts_with(published=320)).text


def test_missing_audio_counts_as_wrong_and_the_page_says_so():
    text = page_of().text

    assert "Missing audio counts as wrong: 16 of 320 samples." in text
    assert "Over the clips with audio: accuracy 0.640 (n 304)." in text


def test_audio_of_which_several_files_have_the_name_is_missing_too():
    assert "wrong: 20 of 320" in missing_text(scores_with(samples=counts_with(ambiguous_audio=4)))


def test_of_given_answers_those_that_are_missing_are_said():
    text = page_of(model={"id": "theirs.csv"}).text

    assert "A missing answer counts as wrong: 16 of 320 samples. Over the clips answered: accuracy" in text
    assert "audio missing" not in text


def test_with_all_audio_there_nothing_is_said_of_missing_audio():
    scores = scores_with(measures={"accuracy": measure(0.6, n=320)}, samples=counts_with(missing_audio=0))

    assert missing_text(scores) == ""


def test_every_count_of_samples_is_shown():
    html = html_of(samples=counts_with(first_rejected="row 7: no label"))

    for row in (
        "published samples of this split</th><td>2,000",
        "samples scored</th><td>320",
        "left out: duplicate id</th><td>2",
        "answered</th><td>300",
        "empty, which count as wrong</th><td>1",
        "failed, which counts as wrong: truncated</th><td>3",
        "audio missing, which counts as wrong</th><td>16",
    ):
        assert row in html, row
    assert "row 7: no label" in html


def test_the_first_failure_of_each_kind_is_shown():
    failed = shown_samples(1, error_code="truncated", error="ends after 3.1 s").worst

    text = page_of(shown=ShownSamples(are_right_or_wrong=True, failed=failed)).text

    assert "truncated: clip: ends after 3.1 s" in text


def test_classes_are_sorted_worst_first():
    html = html_of().split("By class")[1]

    order = [html.index(name) for name in ("sneezing", "crying baby", "rain", "dog")]
    assert order == sorted(order)
    assert "<summary>All" not in html


def test_of_many_classes_the_worst_ten_are_seen_and_all_can_be_opened():
    classes = {f"class {n:02d}": {"value": n / 50, "n": 5} for n in range(50)}

    seen, opened = html_of(per_class=classes, confusion=None).split("<details>")[:2]

    assert "class 09" in seen
    assert "class 10" not in seen
    assert all(name in opened for name in classes)


def test_every_category_has_its_table():
    text = page_of().text

    assert "difficulty" in text
    assert "easy" in text
    assert "0.710" in text


def test_a_long_table_by_category_is_cut_and_says_so():
    parts = {f"part {n:03d}": {"value": 0.5, "n": 1} for n in range(100)}

    text = page_of(per_category={"task": parts}).text

    assert "part 059" in text
    assert "part 060" not in text
    assert "and 40 more" in text


def test_samples_are_open_on_a_page_of_one_benchmark_only():
    assert "<details open>" in html_of(shown=shown_samples())
    assert "<details open>" not in html_of(shown=shown_samples(), is_only=False)


def test_samples_that_are_not_there_are_said_to_be_missing():
    assert "no file of samples" in page_of(shown=None).text


@pytest.mark.parametrize(
    ("extent", "num_articles", "is_cut"), [(FULL, 20, False), (SHORT, 6, True), (BRIEF, 0, True)]
)
def test_a_shorter_section_says_that_it_is_cut(extent, num_articles, is_cut):
    page = page_of(shown=shown_samples(), extent=extent)

    assert sum(tag == "article" for tag, _ in page.elements) == num_articles
    assert ("To keep the page small" in page.text) == is_cut
    assert "0.620" in page.text
