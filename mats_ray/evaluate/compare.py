"""Two evaluations of the same samples, paired: differences with intervals, sample by sample."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from mats_ray.errors import ConfigError, DataError, abbreviated
from mats_ray.evaluate.benchmark import Resources, Scores, TextEmbedder, find_benchmark
from mats_ray.evaluate.log import EvaluationLog, Row, find_logs, record_of
from mats_ray.evaluate.measure import Estimate, difference
from mats_ray.evaluate.run import resources_of
from mats_ray.evaluate.scoring import recordings


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
    rows, paired = _paired(first, second)
    resources = _shared(resources_of(first, embedder), resources_of(second, embedder))
    scores, others = (
        benchmark.score([record_of(row) for row in some], one)
        for some, one in zip((rows, paired), resources, strict=True)
    )
    return [
        _difference(benchmark.name, name, scores, others, recordings(rows))
        for name in scores.measures
        if name in others.measures
    ]


def _paired(first: EvaluationLog, second: EvaluationLog) -> tuple[list[Row], list[Row]]:
    """Return the rows of both, in the order of the first."""
    rows, by_id = first.rows(), {row.sample.id: row for row in second.rows()}
    absent = [row.sample.id for row in rows if row.sample.id not in by_id]
    if absent or len(rows) != len(by_id):
        raise DataError(
            f"{first.folder} and {second.folder} have other samples: {len(rows)} and {len(by_id)}, "
            f"{len(absent)} of the first are not in the second"
        )
    paired = [by_id[row.sample.id] for row in rows]
    for row, other in zip(rows, paired, strict=True):
        if row.sample.references != other.sample.references:
            raise DataError(f"{row.sample.id} has other references in {first.folder} and {second.folder}")
    return rows, paired


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
    benchmark: str, name: str, first: Scores, second: Scores, recording_N: np.ndarray
) -> Difference:
    index_N = np.arange(len(recording_N))
    one, other = first.measures[name], second.measures[name]
    better = worse = None
    if one.values_N is not None and other.values_N is not None:
        better, worse = _counts(one.values_N, other.values_N)
    return Difference(
        benchmark=benchmark,
        measure=name,
        first=one.of(index_N),
        second=other.of(index_N),
        estimate=difference(one, other, recording_N),
        better=better,
        worse=worse,
    )


def _counts(first_N: np.ndarray, second_N: np.ndarray) -> tuple[int, int]:
    return int(np.count_nonzero(first_N > second_N)), int(np.count_nonzero(first_N < second_N))
