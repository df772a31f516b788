"""Every benchmark reads rows as its authors publish them, has their size, and refuses their other splits."""

import ast
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mats_ray.data.sources.registry import SOURCES
from mats_ray.errors import DataError
from mats_ray.evaluate.benchmark import Record, Resources, benchmark_names, find_benchmark
from mats_ray.evaluate.metrics.answers import exact_answers, text_overlap
from mats_ray.evaluate.metrics.captions import caption_scores, music_caption_scores
from mats_ray.evaluate.metrics.choices import (
    matches_characters,
    matches_words,
    substring_choice,
    token_choice,
)
from mats_ray.evaluate.metrics.judge import judged
from mats_ray.evaluate.metrics.labels import label_accuracy, mean_average_precision
from mats_ray.evaluate.samples import read_samples
from tests.unit.data.sources.reading import annotations, write
from tests.unit.evaluate.benchmarks.published import PUBLISHED, TEST_MINI_ITEM, mmau_item
from tests.unit.evaluate.scoring import BagOfWords

NAMES = benchmark_names()
ROOT = Path(__file__).resolve().parents[4]
PAPERS_SIXTEEN = {
    *("esc50", "fsd50k", "dcase2017_task4", "tut2017", "vggsound", "urbansound8k", "clotho_aqa", "gtzan"),
    *("beijing_opera", "audiocaps", "clotho", "musiccaps", "mmau_test_mini", "mmau_test"),
    *("air_bench_sound", "air_bench_music"),
}
MEASURES = {
    label_accuracy: "accuracy",
    mean_average_precision: "mAP",
    caption_scores: "CIDEr-D, SPICE, SPIDEr",
    music_caption_scores: "ROUGE-L, BLEU-4",
    exact_answers: "accuracy, on yes or no too",
    text_overlap: "ROUGE-L",
    substring_choice: "accuracy, rule of 2024",
    token_choice: "accuracy, rule of 2025",
    judged: "judge, 1 to 10",
}
CHOICE_SCORERS = (substring_choice, token_choice)
SHARED = {
    "audiocaps": ("audiocaps_test.csv", 975),
    "clotho": ("clotho_test.csv", 1_045),
    "musiccaps": ("musiccaps-public.csv", 2_858),
    "musicqa": ("EvalMusicQA.json", 5_040),
    "mmau_test_mini_2025": ("mmau-test-mini.json", 1_000),
    "vggsound": ("vggsound_test_head.csv", 5_000),
}
"""Real file and number of its samples, by benchmark."""
PARTS = {"vggsound"}
"""Benchmarks of whose real file only the first rows are there."""


def resources(**verdicts):
    embedder = BagOfWords(words=r"[^\W_]+")
    return Resources(embedder=lambda: embedder, verdicts=verdicts)


def samples_of(name, folder):
    path = write(folder, PUBLISHED[name].name, PUBLISHED[name].content)
    return read_samples(find_benchmark(name), str(path))


def test_every_benchmark_has_rows_here():
    assert set(NAMES) == set(PUBLISHED)


def test_the_papers_sixteen_are_there():
    assert set(NAMES) >= PAPERS_SIXTEEN
    assert all("MATS-LLaMA" in rows for rows in map(main_results, PAPERS_SIXTEEN))


def main_results(name):
    return next(iter(find_benchmark(name).results.values()), {})


@pytest.mark.parametrize("name", NAMES)
def test_rows_as_published_are_read(name, tmp_path):
    read = samples_of(name, tmp_path)

    expected = PUBLISHED[name]
    fields = ("id", "references", "question", "choices", "categories")
    assert [[getattr(one, key) for key in fields] for one in read.samples] == [
        [getattr(one, key) for key in fields] for one in expected.samples
    ]
    for sample, wanted in zip(read.samples, expected.samples, strict=True):
        assert set(wanted.audio) <= set(sample.audio)
    assert dict(read.left_out) == dict(expected.left_out)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_that_comes_again_is_counted(name, tmp_path):
    benchmark, path = find_benchmark(name), write(tmp_path, PUBLISHED[name].name, PUBLISHED[name].content)

    def twice(file):
        yield from find_benchmark(name).read(file)
        yield from find_benchmark(name).read(file)

    once = read_samples(benchmark, str(path))
    again = read_samples(replace(benchmark, read=twice), str(path))

    assert again.samples == once.samples
    assert again.left_out["duplicate id"] == len(once.samples)


@pytest.mark.parametrize("name", [name for name in NAMES if find_benchmark(name).other_files])
def test_files_of_other_splits_are_refused(name, tmp_path):
    benchmark, published = find_benchmark(name), PUBLISHED[name]

    for refused in published.refused:
        with pytest.raises(DataError, match=rf"^{re.escape(refused)} is a file of another split") as raised:
            read_samples(benchmark, str(write(tmp_path, refused, published.content)))
        assert benchmark.split in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", NAMES)
def test_patterns_of_names_fit_published_names_and_no_others(name):
    benchmark, published = find_benchmark(name), PUBLISHED[name]

    def fits(patterns, file):
        return [pattern for pattern in patterns if re.fullmatch(pattern, file)]

    assert bool(fits(benchmark.files, published.name)) == bool(benchmark.files)
    assert not fits(benchmark.other_files, published.name)
    assert not any(fits(benchmark.files, file) for file in published.refused)
    assert all(any(re.fullmatch(one, file) for file in published.refused) for one in benchmark.other_files)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_of_another_benchmark_has_no_sample(name, tmp_path):
    content = b"id;text\n1;nothing of this benchmark\n"
    path = write(tmp_path, PUBLISHED[name].name, content)

    with pytest.raises(DataError, match=re.escape(str(path))):
        read_samples(find_benchmark(name), str(path))


@pytest.mark.shared
@pytest.mark.parametrize("name", sorted(SHARED))
def test_the_real_file_has_the_published_size(name):
    file, count = SHARED[name]

    read = read_samples(find_benchmark(name), str(annotations(file)))

    assert len(read.samples) == count
    assert name in PARTS or count == find_benchmark(name).size
    assert read.first_rejected == ""
    assert set(read.left_out) <= {"of another split"}


@pytest.mark.shared
def test_real_clips_of_audiocaps_and_clotho_have_five_captions_each():
    for name in ("audiocaps", "clotho"):
        read = read_samples(find_benchmark(name), str(annotations(SHARED[name][0])))

        assert {len(one.references) for one in read.samples} == {5}


@pytest.mark.shared
def test_real_mmau_questions_are_a_third_each_of_sound_music_and_speech():
    read = read_samples(find_benchmark("mmau_test_mini_2025"), str(annotations("mmau-test-mini.json")))

    assert Counter(one.categories["task"] for one in read.samples) == {
        "sound": 333,
        "music": 334,
        "speech": 333,
    }
    assert all(one.references[0] in one.choices for one in read.samples)
    assert Counter(one.categories["category"] for one in read.samples) == {
        "Reasoning": 677,
        "Information Extraction": 323,
    }


@pytest.mark.shared
def test_the_real_file_of_2025_is_refused_as_that_of_2024():
    with pytest.raises(DataError, match=r"another revision than test-mini as of 2024"):
        read_samples(find_benchmark("mmau_test_mini"), str(annotations("mmau-test-mini.json")))


def test_mmaus_file_of_2024_is_refused_as_that_of_2025(tmp_path):
    path = write(tmp_path, "mmau-test-mini.json", json.dumps([mmau_item("A child")]))

    with pytest.raises(DataError, match=rf"{TEST_MINI_ITEM} is 'A child', not 'A woman'"):
        read_samples(find_benchmark("mmau_test_mini_2025"), str(path))


def test_vggsounds_other_file_has_both_splits(tmp_path):
    rows = 'zzqr,55,train horning,test\n-abc,7,"bird chirping, tweeting",train\nzzqr,120,train horning,test\n'

    read = read_samples(find_benchmark("vggsound"), str(write(tmp_path, "vggsound.csv", rows)))

    assert [one.id for one in read.samples] == ["zzqr_000055", "zzqr_000120"]
    assert read.left_out == {"of another split": 1}
    assert not any("zzqr" in one.audio for one in read.samples)


def test_the_folder_of_another_split_of_nsynth_has_no_sample(tmp_path):
    path = write(tmp_path / "nsynth-valid", "examples.json", PUBLISHED["nsynth"].content)

    with pytest.raises(DataError, match=r"no sample of nsynth: 3 records left out"):
        read_samples(find_benchmark("nsynth"), str(path))


@pytest.mark.parametrize("name", [name for name in NAMES if not find_benchmark(name).files])
def test_a_folder_is_read_as_a_list_of_its_names_is(name, tmp_path):
    for one in PUBLISHED[name].content.decode().splitlines():
        write(tmp_path / "root", one, b"")

    read = read_samples(find_benchmark(name), str(tmp_path / "root"))

    assert {one.id: one.references for one in read.samples} == {
        one.id: one.references for one in PUBLISHED[name].samples
    }
    assert dict(read.left_out) == dict(PUBLISHED[name].left_out)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mmau_test"])
def test_gold_answers_are_right(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # without Java, whose start takes seconds
    benchmark, read = find_benchmark(name), samples_of(name, tmp_path)
    multiple = benchmark.score is mean_average_precision
    records = [
        Record(sample=one, answer="; ".join(one.references) if multiple else one.references[0])
        for one in read.samples
    ]

    scores = benchmark.score(records, resources(**{one.id: 10.0 for one in read.samples}))

    values = {key: measure.of(np.arange(len(records))) for key, measure in scores.measures.items()}
    if benchmark.score in (caption_scores, music_caption_scores, text_overlap):
        values = {"rouge_l": values["rouge_l"]}  # 1 for equal texts; others depend on their length and number
    perfect = 10.0 if benchmark.score is judged else 1.0
    assert values
    assert {key.partition("/")[0] for key in benchmark.results} <= {*scores.measures, *scores.unavailable}
    assert values == pytest.approx(dict.fromkeys(values, perfect))


def test_shuffled_answers_are_at_chance(tmp_path):
    labels = [f"bell{number % 20}" for number in range(1_000)]
    rows = "".join(f"{number}.wav,{label}\n" for number, label in enumerate(labels))
    path = write(tmp_path, "esc50.csv", f"filename,category\n{rows}")
    answers = np.random.default_rng(0).permutation(labels)
    benchmark = find_benchmark("esc50")

    samples = read_samples(benchmark, str(path)).samples
    records = [Record(sample=one, answer=str(text)) for one, text in zip(samples, answers, strict=True)]
    accuracy = benchmark.score(records, resources()).measures["accuracy"]

    assert accuracy.chance == 1 / 20
    assert accuracy.of(np.arange(1_000)) == pytest.approx(accuracy.chance, abs=0.03)


def is_clear(sample):
    """Whether both rules count one choice alone as right."""
    right = sample.references[0]
    return all(
        sum(rule(right, choice, sample.choices) for choice in sample.choices) == 1
        for rule in (matches_words, matches_characters)
    )


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mmau_test"])
def test_answers_that_know_nothing_are_at_the_chance_that_is_told(name, tmp_path, monkeypatch):
    """Its samples many times over, each with a choice, or the reference of any, drawn at random.

    Left out are questions of which the official rules count a wrong choice as right: nine of MMAU's 1,000.
    """
    monkeypatch.setenv("PATH", str(tmp_path))
    benchmark, draws = find_benchmark(name), np.random.default_rng(0)
    samples = [one for one in samples_of(name, tmp_path).samples if not one.choices or is_clear(one)]
    many = [replace(one, id=f"{one.id}/{turn}") for turn in range(3_000 // len(samples)) for one in samples]
    pool = sorted({label for one in samples for label in one.references})
    records = [
        Record(sample=one, answer=str(draws.choice(one.choices or pool))) for one in many if one.references
    ]

    measures = benchmark.score(records, resources()).measures

    told = {key: one for key, one in measures.items() if one.chance is not None and key != "binary_accuracy"}
    assert bool(told) is (benchmark.score in (label_accuracy, mean_average_precision, *CHOICE_SCORERS))
    for measure in told.values():
        assert measure.of(np.arange(len(records))) == pytest.approx(measure.chance, abs=0.05)


@pytest.mark.shared
def test_random_choices_of_real_mmau_questions_are_at_chance():
    benchmark, draws = find_benchmark("mmau_test_mini_2025"), np.random.default_rng(0)

    samples = read_samples(benchmark, str(annotations("mmau-test-mini.json"))).samples
    records = [Record(sample=one, answer=str(draws.choice(one.choices))) for one in samples]
    accuracy = benchmark.score(records, resources()).measures["accuracy"]

    assert accuracy.chance == pytest.approx(0.255, abs=0.001)
    assert accuracy.of(np.arange(len(records))) == pytest.approx(accuracy.chance, abs=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_results_are_shares_of_measures_that_exist(name):
    benchmark = find_benchmark(name)

    highest = 10.0 if benchmark.score is judged else 1.0
    assert all(0 < value <= highest for rows in benchmark.results.values() for value in rows.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_asks_one_question_or_each_sample_its_own(name, tmp_path):
    benchmark, read = find_benchmark(name), samples_of(name, tmp_path)

    assert all(bool(benchmark.prompt) != bool(one.question) for one in read.samples)
    text = benchmark.instruction(read.samples[0], "upstream_eval")
    assert text == f"{benchmark.upstream_prefix} {benchmark.instruction(read.samples[0], 'none')}"


def test_licences_are_those_of_the_sources():
    of_sources = {name: find_benchmark(name).license for name in NAMES if name in SOURCES}

    assert len(of_sources) > 10
    assert of_sources == {name: SOURCES[name].license for name in of_sources}


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_is_a_small_file(name):
    path = ROOT / "mats_ray" / "evaluate" / "benchmarks" / f"{name}.py"

    assert len(path.read_text().splitlines()) <= 60
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert find_benchmark(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_the_page_has_a_row_of_every_benchmark(name):
    assert page_row(find_benchmark(name)) in (ROOT / "docs" / "evaluation.md").read_text().splitlines()


def page_row(benchmark):
    """Write a benchmark as a row of the table in ``docs/evaluation.md``."""
    rows = [rows for rows in benchmark.results.values() if "MATS-LLaMA" in rows]
    ours = " / ".join(f"{one['MATS-LLaMA']:g}" for one in rows)
    cells = (
        f"`{benchmark.name}`",
        benchmark.reads,
        f"{benchmark.size:,}",
        benchmark.license,
        f"`{benchmark.upstream_prefix}`",
        MEASURES[benchmark.score],
        ours or "-",
    )
    return f"| {' | '.join(cells)} |"
