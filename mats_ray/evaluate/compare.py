"""Two evaluations of the same samples, paired: differences with intervals, sample by sample."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from mats_ray.errors import ConfigError, DataError, abbreviated
from mats_ray.evaluate.benchmark import Resources, TextEmbedder, find_benchmark
from mats_ray.evaluate.log import EvaluationLog, Row, find_logs
from mats_ray.evaluate.measure import Estimate, Measure, difference
from mats_ray.evaluate.scoring import ScoredRows, recordings, resources_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One measure of two evaluations."""

    benchmark: str
    measure: str
    first: float
    second: float
    estimate: Estimate
    """First minus second, over the samples of both."""
    better: int | None
    """Number of samples that the first answers better; None where the measure is no mean over samples."""
    worse: int | None

    def __str__(self) -> str:
        """Return it in one line."""
        one = self.estimate
        line = (
            f"{self.benchmark}: {self.measure} {self.first:.4f} and {self.second:.4f}, difference "
            f"{one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f}), {one.n} samples"
        )
        return line if self.better is None else f"{line}; better in {self.better}, worse in {self.worse}"


def compare(first: str, second: str, *, embedder: str) -> list[Difference]:
    """Compare every measure of every benchmark that both folders hold.

    Labels are matched anew, by one embedder for both. Intervals are the 2.5 and 97.5 percentiles of paired
    bootstrap resamples of the samples.

    Args:
        first: Folder of an evaluation.
        second: Another one.
        embedder: See ``embedders.load_embedder``.

    Raises:
        DataError: They have no benchmark in common, or other samples or references of one.
    """
    logs, others = find_logs(first), find_logs(second)
    if not (names := sorted(logs.keys() & others.keys())):
        raise DataError(
            f"{first} and {second} have no benchmark in common: {abbreviated(logs)}; {abbreviated(others)}"
        )
    return [one for name in names for one in compare_logs(logs[name], others[name], embedder=embedder)]


def compare_logs(first: EvaluationLog, second: EvaluationLog, *, embedder: str) -> list[Difference]:
    """Compare two logs of one benchmark, see ``compare``."""
    header, other = first.header(), second.header()
    if (header.benchmark, header.version) != (other.benchmark, other.version):
        raise DataError(
            f"{first.folder} is of {header.benchmark} version {header.version}, {second.folder} of "
            f"{other.benchmark} version {other.version}"
        )
    benchmark = find_benchmark(header.benchmark)
    resources = _shared(resources_of(first, embedder), resources_of(second, embedder))
    pairs = zip((first, second), resources, strict=True)
    return differences(*(ScoredRows.of(log, benchmark, one) for log, one in pairs))


def differences(first: ScoredRows, second: ScoredRows) -> list[Difference]:
    """Compare every measure of two evaluations of one benchmark, first less second.

    Raises:
        DataError: They have other samples, or other references of one.
    """
    place_N, recording_N = _places(first.rows, second.rows), recordings(first.rows)
    return [
        _difference(first.benchmark.name, name, one, second.scores.measures[name].over(place_N), recording_N)
        for name, one in first.scores.measures.items()
        if name in second.scores.measures
    ]


def _places(rows: Sequence[Row], others: Sequence[Row]) -> np.ndarray:
    """Return the place of each row's sample among the others, (N,)."""
    place_of = {row.sample.id: place for place, row in enumerate(others)}
    absent = [row.sample.id for row in rows if row.sample.id not in place_of]
    if absent or len(rows) != len(place_of):
        raise DataError(
            f"the evaluations have other samples: {len(rows)} and {len(place_of)}, "
            f"{len(absent)} of the first are not in the second"
        )
    places = [place_of[row.sample.id] for row in rows]
    for row, place in zip(rows, places, strict=True):
        if row.sample.references != others[place].sample.references:
            raise DataError(f"{row.sample.id} has other references in the two evaluations")
    return np.array(places, dtype=np.int64)


def _shared(first: Resources, second: Resources) -> tuple[Resources, Resources]:
    """Have both use the embedder of the first, or of the second where of the first no model is known."""

    @cache
    def load() -> TextEmbedder:
        try:
            return first.embedder()
        except ConfigError:
            return second.embedder()

    return replace(first, embedder=load), replace(second, embedder=load)


def _difference(
    benchmark: str, name: str, first: Measure, second: Measure, recording_N: np.ndarray
) -> Difference:
    index_N = np.arange(len(recording_N))
    better = worse = None
    if first.values_N is not None and second.values_N is not None:
        better, worse = _counts(first.values_N, second.values_N)
    return Difference(
        benchmark=benchmark,
        measure=name,
        first=first.of(index_N),
        second=second.of(index_N),
        estimate=difference(first, second, recording_N),
        better=better,
        worse=worse,
    )


def _counts(first_N: np.ndarray, second_N: np.ndarray) -> tuple[int, int]:
    return int(np.count_nonzero(first_N > second_N)), int(np.count_nonzero(first_N < second_N))
