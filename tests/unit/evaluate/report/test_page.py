"""The page of an evaluation folder: complete, small, safe whatever was answered, local or remote."""

import itertools
import json
import tracemalloc

import numpy as np
import pytest

from mats_ray.errors import DataError
from mats_ray.evaluate.report.page import write_report
from mats_ray.storage import read_bytes, write_bytes
from tests.html import Page
from tests.s3 import s3_server
from tests.unit.evaluate.report.results import sample, scores_of, write_results

PLANTED = """<script>alert('planted')</script>"><img src=x onerror=alert(1)>"""
MAX_BYTES = 2_000_000


def page_of(folder):
    return Page(read_bytes(write_report(str(folder))).decode())


def planted(value):
    """Replace every text of a tree, keys of free choice included, by a hostile one."""
    if isinstance(value, dict):
        return {key: planted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [planted(one) for one in value]
    return PLANTED if isinstance(value, str) else value


def hostile_results(folder):
    part = {PLANTED: {"value": 0.5, "n": 1}}
    scores = planted(scores_of()) | {
        "benchmark": "esc50",
        "measures": {PLANTED: scores_of()["measures"]["accuracy"]},
        "unavailable": {PLANTED: PLANTED},
        "per_class": part,
        "per_category": {PLANTED: part},
        "results": {PLANTED: {PLANTED: 0.5}},
        "details": {PLANTED: PLANTED},
        "model": {"id": PLANTED, PLANTED: PLANTED},
        "versions": {PLANTED: PLANTED},
    }
    scores["samples"] |= {"left_out": {PLANTED: 1}, "errors": {PLANTED: 1}}
    texts = dict.fromkeys(
        ("audio", "question", "prompt", "answer", "prediction", "error", "error_code"), PLANTED
    )
    lists = {"references": [PLANTED] * 2, "choices": [PLANTED], "categories": {PLANTED: PLANTED}}
    rows = [
        sample(f"{PLANTED}{n}", score=float(n % 2), **texts, **lists, status="error" if n == 9 else "ok")
        for n in range(10)
    ]
    write_results(folder, scores, rows)


def test_no_text_becomes_an_element_or_an_attribute(tmp_path):
    hostile_results(tmp_path)

    page = page_of(tmp_path)

    assert not {"script", "img"} & {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.text.count(PLANTED) > 100


def test_the_policy_of_the_page_allows_no_script(tmp_path):
    write_results(tmp_path)

    page = page_of(tmp_path)

    (policy,) = [one for one in page.values("content") if "default-src" in one]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    write_results(
        tmp_path, scores_of(source="https://example.org/esc50"), [sample("a", audio="s3://b/a.wav")]
    )

    page = page_of(tmp_path)

    references = [*page.values("src"), *page.values("href")]
    assert all(one.startswith(("data:", "#")) for one in references)


def test_every_id_is_there_once_and_every_reference_finds_its_own(tmp_path):
    for name in ("a", "b", "c"):
        write_results(tmp_path, scores_of(name, title=name))

    page = page_of(tmp_path)

    ids = page.values("id")
    targets = {one.removeprefix("#") for one in page.values("href") if one.startswith("#")}
    assert len(ids) == len(set(ids))
    assert {*page.values("aria-labelledby")} | targets <= {*ids}
    assert len(targets) == 3


def test_headings_leave_out_no_level(tmp_path):
    write_results(tmp_path, samples=[sample("a"), sample("b", score=0.0)])

    levels = [int(tag[1]) for tag, _ in page_of(tmp_path).elements if tag in {"h1", "h2", "h3", "h4", "h5"}]

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_benchmarks_stand_in_the_order_of_their_titles(tmp_path):
    for name, title in (("a", "VGGSound"), ("b", "AudioCaps"), ("c", "clotho")):
        write_results(tmp_path, scores_of(name, title=title))

    text = page_of(tmp_path).text

    assert text.index("AudioCaps") < text.index("clotho") < text.index("VGGSound")


def test_the_same_results_give_the_same_page(tmp_path):
    write_results(tmp_path, samples=[sample(f"{n}", score=float(n % 2)) for n in range(50)])

    first = read_bytes(write_report(str(tmp_path)))
    second = read_bytes(write_report(f"{tmp_path}/"))

    assert first == second


def test_half_a_character_does_not_stop_the_page(tmp_path):
    write_results(tmp_path, scores_of(note="half \ud800 of it"))

    assert "half ? of it" in page_of(tmp_path).text


def test_scores_deeper_or_higher_are_not_results(tmp_path):
    write_results(tmp_path)
    write_bytes(f"{tmp_path}/scores.json", b"{}")
    write_bytes(f"{tmp_path}/esc50/older/scores.json", b"{}")

    assert page_of(tmp_path).text.count("Beside published results") == 1


@pytest.mark.parametrize("folder", ["empty", "nowhere"])
def test_a_folder_without_results_is_refused(tmp_path, folder):
    (tmp_path / "empty").mkdir()

    with pytest.raises(DataError, match=f"{folder} holds no results"):
        write_report(str(tmp_path / folder))


def test_hundreds_of_benchmarks_stay_a_small_page(tmp_path):
    labels = [f"class number {n}" for n in range(40)]
    counts = np.random.default_rng(0).integers(1, 90, (40, 40)).tolist()
    confusion = {"labels": labels, "counts": counts, "unmatched": [0] * 40}
    classes = {label: {"value": 0.5, "n": 40} for label in labels}
    rows = [sample(f"{n}", score=float(n % 2), answer="a dog barks " * 100) for n in range(40)]
    for n in range(300):
        scores = scores_of(f"b{n}", title=f"Benchmark {n}", confusion=confusion, per_class=classes)
        write_results(tmp_path, scores, rows)

    data = read_bytes(write_report(str(tmp_path)))

    assert len(data) < MAX_BYTES
    assert data.count(b"Beside published results") == 300


def test_twenty_thousand_samples_are_not_all_held_as_objects(tmp_path):
    rows = [sample(f"{n:05d}", score=float(n % 2), answer=f"{n} dogs bark " * 20) for n in range(20_000)]
    write_results(tmp_path, samples=rows)
    del rows

    tracemalloc.start()
    data = read_bytes(write_report(str(tmp_path)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert data.count(b"<article>") == 20
    assert len(data) < 100_000
    assert peak < 20_000_000


def test_texts_of_any_length_stay_a_small_page(tmp_path):
    long = "word " * 400_000
    rows = [sample(f"{n}", score=float(n % 2), answer=long, references=[long] * 30) for n in range(3)]
    write_results(tmp_path, scores_of(note=long, title=long, per_class={long: {"value": 1, "n": 1}}), rows)

    assert len(read_bytes(write_report(str(tmp_path)))) < 200_000


def test_results_in_a_bucket_have_their_page_there(tmp_path):
    own = write_results(tmp_path, samples=[sample("a", audio="s3://results/a.wav")])

    with s3_server("results"):
        for name in ("scores.json", "samples.parquet"):
            write_bytes(f"s3://results/eval/esc50/{name}", (own / name).read_bytes())
        path = write_report("s3://results/eval")
        page = Page(read_bytes(path).decode())

    assert path == "s3://results/eval/report.html"
    assert "s3://results/a.wav" in page.text


def test_a_file_of_scores_that_is_wrong_is_named(tmp_path):
    own = write_results(tmp_path)
    (own / "scores.json").write_text(json.dumps({"benchmark": "esc50"}))

    with pytest.raises(DataError, match=r"esc50/scores\.json is not a file of scores: title"):
        write_report(str(tmp_path))
