"""Two evaluations are compared on the same samples, paired."""

import pytest

from mats_ray.errors import DataError
from mats_ray.evaluate import compare as module
from mats_ray.evaluate.compare import compare
from tests.unit.evaluate.logs import BENCHMARK, row, write_log


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(module, "find_benchmark", lambda name: BENCHMARK)


def rows_of(*answers):
    return [row(str(n), "dog" if n % 2 else "rain", answer) for n, answer in enumerate(answers)]


def test_the_difference_and_the_samples_behind_it(tmp_path):
    write_log(tmp_path / "a/tiny", rows_of("rain", "dog", "rain", "dog"))
    write_log(tmp_path / "b/tiny", rows_of("rain", "rain", "dog", "dog"), model={"id": "other"})

    (found,) = compare(str(tmp_path / "a"), str(tmp_path / "b"), embedder="clap")

    assert (found.first, found.second, found.estimate.value) == (1.0, 0.5, 0.5)
    assert (found.better, found.worse) == (2, 0)
    assert found.estimate.low < 0.5 < found.estimate.high


def test_an_evaluation_equals_itself_without_any_doubt(tmp_path):
    write_log(tmp_path / "a/tiny", rows_of("rain", "rain", "dog"))

    (found,) = compare(str(tmp_path / "a"), str(tmp_path / "a"), embedder="clap")

    assert (found.estimate.value, found.estimate.error, found.estimate.low) == (0, 0, 0)


def test_the_order_of_the_samples_does_not_matter(tmp_path):
    rows = rows_of("rain", "rain", "dog")
    write_log(tmp_path / "a/tiny", rows)
    write_log(tmp_path / "b/tiny", rows[::-1])

    (found,) = compare(str(tmp_path / "a"), str(tmp_path / "b"), embedder="clap")

    assert found.estimate.value == found.estimate.error == 0


def test_other_samples_are_refused(tmp_path):
    write_log(tmp_path / "a/tiny", rows_of("rain", "rain", "dog"))
    write_log(tmp_path / "b/tiny", rows_of("rain", "rain"))

    with pytest.raises(DataError, match="other samples: 3 and 2, 1 of the first are not in the second"):
        compare(str(tmp_path / "a"), str(tmp_path / "b"), embedder="clap")


def test_other_references_are_refused(tmp_path):
    write_log(tmp_path / "a/tiny", [row("1", "dog", "dog")])
    write_log(tmp_path / "b/tiny", [row("1", "cat", "dog")])

    with pytest.raises(DataError, match="1 has other references"):
        compare(str(tmp_path / "a"), str(tmp_path / "b"), embedder="clap")


def test_no_benchmark_in_common_is_refused(tmp_path):
    write_log(tmp_path / "a/tiny", rows_of("rain"))
    write_log(tmp_path / "b/other", rows_of("rain"))

    with pytest.raises(DataError, match="have no benchmark in common: tiny; other"):
        compare(str(tmp_path / "a"), str(tmp_path / "b"), embedder="clap")
