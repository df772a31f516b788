"""What a benchmark asks, and how one is found by its name."""

import pytest

from mats_ray.errors import ConfigError
from mats_ray.evaluate.benchmark import Sample, benchmark_names, find_benchmark
from tests.unit.evaluate.reading import benchmark_of

SAMPLE = Sample(id="a", audio=("a.wav",), references=("bell",), question="Which bell\nrings?")


def test_the_prompt_of_a_benchmark_is_that_of_every_sample():
    assert benchmark_of(iter).instruction(SAMPLE, "none") == "Name the bell."


def test_without_a_prompt_each_sample_has_its_own_question():
    assert benchmark_of(iter, prompt="").instruction(SAMPLE, "none") == "Which bell\nrings?"


def test_upstreams_token_stands_before_the_text_if_wanted():
    benchmark = benchmark_of(iter, upstream_prefix="[single event]")

    assert benchmark.instruction(SAMPLE, "upstream_eval") == "[single event] Name the bell."
    assert benchmark.instruction(SAMPLE, "none") == "Name the bell."


def test_without_a_token_both_modes_ask_the_same():
    assert benchmark_of(iter).instruction(SAMPLE, "upstream_eval") == "Name the bell."


def test_people_read_the_names_of_files_not_their_patterns():
    assert benchmark_of(iter).reads == "bells_test.csv or bells.json"
    assert benchmark_of(iter, files=()).reads == "names of audio files"


def test_benchmarks_are_listed_sorted_by_name():
    names = benchmark_names()

    assert names == sorted(names)
    assert {"esc50", "clotho", "mmau_test_mini"} <= set(names)


def test_a_benchmark_is_found_by_name():
    assert find_benchmark("esc50").title == "ESC-50"


@pytest.mark.parametrize("name", ["esc51", "", "__init__", "esc50.py", "../benchmarks/esc50"])
def test_an_unknown_name_is_refused_with_those_there_are(name):
    with pytest.raises(ConfigError, match=r"benchmark .* is unknown; there are .*esc50"):
        find_benchmark(name)
