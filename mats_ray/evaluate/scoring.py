"""From a log to ``scores.json``: measures with their certainty, tables by class and category, counts.

Shapes: N samples, S samples of a selection, L labels.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np

from mats_ray.evaluate.benchmark import Benchmark, Resources, Scores, TextEmbedder
from mats_ray.evaluate.embedders import CLAP, load_embedder
from mats_ray.evaluate.judge import VERDICTS, read_verdicts, scores_of
from mats_ray.evaluate.log import EvaluationLog, Header, Row, record_of
from mats_ray.evaluate.measure import Measure
from mats_ray.models.directory import read_info
from mats_ray.storage import exists

MAX_CATEGORIES = 50
"""A column with more different values is no category."""


@dataclass(frozen=True, kw_only=True)
class ScoredRows:
    """Rows of a log and what the scorer of their benchmark finds."""

    benchmark: Benchmark
    rows: Sequence[Row]
    scores: Scores

    @classmethod
    def of(cls, log: EvaluationLog, benchmark: Benchmark, resources: Resources) -> "ScoredRows":
        """Read the rows of a log and score them; nothing is written."""
        rows = log.rows()
        scores = benchmark.score([record_of(row) for row in rows], resources)
        return cls(benchmark=benchmark, rows=rows, scores=scores)


def score_log(log: EvaluationLog, benchmark: Benchmark, resources: Resources) -> dict[str, Any]:
    """Score the rows of a log and write what is found, see ``write_scores``."""
    return write_scores(log, ScoredRows.of(log, benchmark, resources))


def write_scores(log: EvaluationLog, scored: ScoredRows) -> dict[str, Any]:
    """Write ``scores.json`` and the rows' own scores, and return the former.

    Audio that is missing counts as a wrong answer, as do an empty answer and audio that cannot be used; where
    audio is missing, every measure stands there over the samples with audio as well.
    """
    benchmark, rows, scores, header = scored.benchmark, scored.rows, scored.scores, log.header()
    main = next(iter(scores.measures.values()), None)
    log.write(rows, predictions=scores.predictions, scores=None if main is None else main.values_N)
    tree = _facts(benchmark, header) | {
        "measures": {name: _estimates(one, rows) for name, one in scores.measures.items()}
        | _parts(benchmark, scores, rows),
        "unavailable": dict(scores.unavailable),
        "samples": sample_counts(benchmark, header, rows),
        "per_class": {} if main is None else _per_class(scores, main, rows),
        "per_category": {} if main is None else _per_category(main, rows),
        "confusion": _confusion(scores.predictions, rows),
        "gap": log.gap(),
        "details": dict(scores.details),
    }
    log.write_scores(tree)
    return tree


def resources_of(log: EvaluationLog, embedder: str) -> Resources:
    """Return what scorers of a log may need; the embedder is loaded when it is first used."""
    verdicts = scores_of(read_verdicts(log.path(VERDICTS))) if exists(log.path(VERDICTS)) else {}
    directory = log.header().model.get("directory")

    @cache
    def load() -> TextEmbedder:
        clap = read_info(directory).model.clap if embedder == CLAP and directory else None
        return load_embedder(embedder, clap=clap)  # pyright: ignore[reportArgumentType]  (frozen)

    return Resources(embedder=load, verdicts=verdicts)


def sample_counts(benchmark: Benchmark, header: Header, rows: Sequence[Row]) -> dict[str, Any]:
    """Count samples by what became of them; nothing is left out without a count."""
    status = Counter(row.status for row in rows)
    errors = Counter(row.error_code for row in rows if row.status == "error")
    return {
        "published": benchmark.size,
        "annotated": len(rows),
        "left_out": dict(header.left_out),
        "first_rejected": header.first_rejected,
        "answered": status["ok"],
        "empty": status["empty"],
        "errors": dict(errors.most_common()),
        "missing_audio": status["missing"] - header.num_ambiguous,
        "ambiguous_audio": header.num_ambiguous,
    }


def recordings(rows: Sequence[Row]) -> np.ndarray:
    """Number the recordings that samples are about, (N,), by their published names."""
    return np.unique([row.sample.audio[0] for row in rows], return_inverse=True)[1]


def _facts(benchmark: Benchmark, header: Header) -> dict[str, Any]:
    names = ("title", "split", "note", "paper", "license", "source")
    facts = {name: getattr(benchmark, name) for name in names}
    of_header = ("model", "decoding", "prompt", "versions", "revision", "created")
    tree = {"benchmark": benchmark.name, "version": benchmark.version, **facts}
    tree["results"] = {measure: dict(rows) for measure, rows in benchmark.results.items()}
    return tree | {name: value for name, value in asdict(header).items() if name in of_header}


def _estimates(measure: Measure, rows: Sequence[Row]) -> dict[str, Any]:
    tree = asdict(measure.estimate(recordings(rows))) | {"chance": measure.chance}
    with_audio = np.flatnonzero([row.status != "missing" for row in rows])
    if len(with_audio) < len(rows):
        tree |= {"value_with_audio": measure.of(with_audio), "n_with_audio": len(with_audio)}
    return tree


def _parts(benchmark: Benchmark, scores: Scores, rows: Sequence[Row]) -> dict[str, Any]:
    """Estimate the measures of published results over one category, ``accuracy/sound`` say."""
    parts = dict[str, Any]()
    for name in benchmark.results:
        measure, slash, category = name.partition("/")
        index_S = np.flatnonzero([category in row.sample.categories.values() for row in rows])
        if slash and measure in scores.measures and len(index_S):
            some = [rows[index] for index in index_S.tolist()]
            parts[name] = _estimates(scores.measures[measure].over(index_S), some)
    return parts


def _per_class(scores: Scores, main: Measure, rows: Sequence[Row]) -> dict[str, Any]:
    counts = Counter(label for row in rows for label in row.sample.references)
    if scores.per_class:
        return {label: {"value": value, "n": counts[label]} for label, value in scores.per_class.items()}
    if not scores.predictions or any(row.sample.choices for row in rows):
        return {}
    return _by([row.sample.references[0] for row in rows], main)


def _per_category(main: Measure, rows: Sequence[Row]) -> dict[str, Any]:
    names = dict.fromkeys(name for row in rows for name in row.sample.categories)
    columns = {name: [row.sample.categories.get(name, "") for row in rows] for name in names}
    return {
        name: _by(values, main) for name, values in columns.items() if 1 < len(set(values)) <= MAX_CATEGORIES
    }


def _by(values: Sequence[str], measure: Measure) -> dict[str, Any]:
    places = dict[str, list[int]]()
    for place, value in enumerate(values):
        places.setdefault(value, []).append(place)
    return {
        value: {"value": measure.of(np.array(index_S)), "n": len(index_S)}
        for value, index_S in sorted(places.items())
    }


def _confusion(predictions: Sequence[str], rows: Sequence[Row]) -> Mapping[str, Any] | None:
    """Count predicted labels by true label; answers without a label stand apart."""
    if not predictions or any(row.sample.choices for row in rows):
        return None
    labels = sorted({label for row in rows for label in row.sample.references} | {*predictions} - {""})
    place = {label: n for n, label in enumerate(labels)}
    count_LL, unmatched_L = np.zeros((len(labels), len(labels)), int), np.zeros(len(labels), int)
    for found, row in zip(predictions, rows, strict=True):
        truth = place[row.sample.references[0]]
        if found:
            count_LL[truth, place[found]] += 1
        else:
            unmatched_L[truth] += 1
    return {"labels": labels, "counts": count_LL.tolist(), "unmatched": unmatched_L.tolist()}
