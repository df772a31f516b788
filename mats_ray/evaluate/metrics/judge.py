"""Answers scored from 1 to 10 by a judge (AIR-Bench chat); verdicts come from ``evaluate.judge``.

Shapes: N records, S samples of a selection.
"""

from collections.abc import Sequence

import numpy as np

from mats_ray.evaluate.benchmark import Record, Resources, Scores
from mats_ray.evaluate.measure import Measure


def judged(records: Sequence[Record], resources: Resources) -> Scores:
    """Mean score of the judge over the samples that it judged; an empty answer scores 0 without it.

    Samples whose reply holds no two scores have no verdict. As in AIR-Bench's own script they are not in the
    mean; here they are counted.
    """
    if not resources.verdicts:
        why = "no verdicts: give --judge MODEL@URL, or verdicts of the exported requests (docs/evaluation.md)"
        return Scores(measures={}, unavailable={"judge": why})
    score_N = np.array([_score(one, resources) for one in records])
    num_missing = int(np.isnan(score_N).sum())
    measure = Measure(of=lambda index_S: _mean(score_N[index_S]))
    details = {"judged": f"{len(records) - num_missing} of {len(records)} answers"}
    if num_missing:
        details["without a verdict"] = f"{num_missing} answers, which are not in the mean"
    return Scores(measures={"judge": measure}, details=details)


def _score(record: Record, resources: Resources) -> float:
    return resources.verdicts.get(record.sample.id, np.nan) if record.answer.strip() else 0.0


def _mean(score_S: np.ndarray) -> float:
    judged_S = score_S[~np.isnan(score_S)]
    return float(judged_S.mean()) if len(judged_S) else 0.0
