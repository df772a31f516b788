"""Samples to show of ``samples.parquet``: wrong ones and right ones, the same whenever the page is written.

Only ids, states and scores of all samples are read, as arrays; the texts of those that are shown.
Shapes: N samples, S samples of a selection.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mats_ray.errors import DataError
from mats_ray.storage import open_input, reading_parquet

NUM_EACH = 10
"""Samples shown of those that are wrong, and of those that are right."""
MAX_ERROR_CODES = 10
ANSWERED = ("ok", "empty")
_LIGHT = ["id", "status", "error_code", "score"]
_TEXTS = [
    "audio",
    "question",
    "references",
    "choices",
    "categories",
    "prompt",
    "answer",
    "prediction",
    "error",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSample:
    """One row of the file."""

    id: str
    audio: str | None
    question: str
    prompt: str
    references: Sequence[str]
    choices: Sequence[str]
    categories: Mapping[str, str]
    answer: str
    prediction: str | None
    score: float | None
    error_code: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSamples:
    """What of a benchmark's samples is shown."""

    are_right_or_wrong: bool
    """All scores are 0 or 1."""
    worst: Sequence[ShownSample] = ()
    """Wrong ones spread evenly by id; where scores are more than right or wrong, the lowest."""
    best: Sequence[ShownSample] = ()
    """Right ones spread evenly by id, or the highest."""
    unscored: Sequence[ShownSample] = ()
    """Spread evenly by id, where samples have no score of their own."""
    failed: Sequence[ShownSample] = ()
    """The first, by id, of each error code."""


def read_shown(path: str) -> ShownSamples:
    """Choose and read the samples of one benchmark.

    Args:
        path: ``samples.parquet``, local or remote.

    Raises:
        DataError: A column is not there, or it is no Parquet file.
        StorageError: It cannot be read.
    """
    with reading_parquet(path), open_input(path) as file:
        parquet = pq.ParquetFile(file)
        if absent := [name for name in [*_LIGHT, *_TEXTS] if name not in parquet.schema_arrow.names]:
            raise DataError(f"{path} has no column {', '.join(absent)}")
        light = parquet.read(columns=_LIGHT)
        light = light.append_column("row", pa.array(np.arange(len(light)))).sort_by("id")
        order_N = light["row"].to_numpy()
        scores_N = light["score"].cast(pa.float64()).to_numpy()  # null becomes NaN
        answered_N = np.isin(light["status"].to_numpy(), ANSWERED)
        picks = choose(scores_N, answered_N) | {"failed": _first_failures(light)}
        chosen = {kind: order_N[index_S] for kind, index_S in picks.items()}
        rows = _read_rows(parquet, np.unique(np.concatenate(list(chosen.values()))))
    shown = {kind: [rows[row] for row in rows_S.tolist()] for kind, rows_S in chosen.items()}
    return ShownSamples(are_right_or_wrong=_are_right_or_wrong(scores_N), **shown)


def choose(scores_N: np.ndarray, answered_N: np.ndarray) -> dict[str, np.ndarray]:
    """Choose indices among answered samples, which are in the order of their ids.

    Returns:
        Indices (S,) of the worst and best, or, where no sample has a score, of the unscored.
    """
    scored = np.flatnonzero(answered_N & np.isfinite(scores_N))
    if not len(scored):
        return {"unscored": spread(np.flatnonzero(answered_N), 2 * NUM_EACH)}
    scores_S = scores_N[scored]
    if _are_right_or_wrong(scores_N):
        worse, better = scored[scores_S == 0], scored[scores_S == 1]
    else:
        ranked = scored[np.argsort(scores_S, kind="stable")]
        worse, better = ranked[: len(ranked) // 2], ranked[len(ranked) // 2 :]
    return {"worst": _lowest(worse, scores_N[worse]), "best": _lowest(better, -scores_N[better])}


def spread(index_S: np.ndarray, most: int) -> np.ndarray:
    """Take some of the indices, evenly spaced in their order."""
    number = min(most, len(index_S))
    return index_S[np.arange(number) * len(index_S) // max(number, 1)]


def _lowest(index_S: np.ndarray, key_S: np.ndarray) -> np.ndarray:
    """Take the indices of the lowest keys; of those that are equal to the last one, evenly by id."""
    if len(index_S) <= NUM_EACH:
        return index_S[np.lexsort((index_S, key_S))]
    bound = np.partition(key_S, NUM_EACH - 1)[NUM_EACH - 1]
    below = index_S[key_S < bound]
    below = below[np.lexsort((below, key_S[key_S < bound]))]
    return np.concatenate([below, spread(np.sort(index_S[key_S == bound]), NUM_EACH - len(below))])


def _are_right_or_wrong(scores_N: np.ndarray) -> bool:
    known_S = scores_N[np.isfinite(scores_N)]
    return bool(len(known_S) and np.isin(known_S, (0.0, 1.0)).all())


def _first_failures(light: pa.Table) -> np.ndarray:
    place = light.append_column("place", pa.array(np.arange(len(light))))
    failed = place.filter(pa.array(light["status"].to_numpy() == "error"))
    firsts = failed.group_by("error_code").aggregate([("place", "min")])["place_min"].to_numpy()
    return np.sort(firsts)[:MAX_ERROR_CODES]


def _read_rows(parquet: pq.ParquetFile, chosen_S: np.ndarray) -> dict[int, ShownSample]:
    """Read the chosen rows, which are sorted, one row group at a time."""
    rows, start = dict[int, ShownSample](), 0
    for group in range(parquet.num_row_groups):
        stop = start + parquet.metadata.row_group(group).num_rows
        inside = chosen_S[(chosen_S >= start) & (chosen_S < stop)]
        if len(inside):
            columns = parquet.read_row_group(group, columns=[*_LIGHT, *_TEXTS]).take(inside - start)
            rows |= zip(inside.tolist(), map(_shown, columns.to_pylist()), strict=True)
        start = stop
    return rows


def _shown(row: Mapping[str, Any]) -> ShownSample:
    texts = {name: row[name] or "" for name in ("id", "question", "prompt", "answer", "error_code", "error")}
    return ShownSample(
        **texts,
        audio=row["audio"],
        prediction=row["prediction"],
        references=row["references"] or (),
        choices=row["choices"] or (),
        categories=_categories(row["categories"]),
        score=row["score"],
    )


def _categories(value: Any) -> dict[str, str]:
    """Accept a map or struct of Arrow, or JSON."""
    if isinstance(value, str):
        value = json.loads(value or "{}")
    return {name: one for name, one in dict(value or {}).items() if one not in (None, "")}
