"""The mean of a judge's scores, with what it did not judge counted."""

import numpy as np

from mats_ray.evaluate.benchmark import Record, Resources, Sample
from mats_ray.evaluate.metrics.judge import judged


def records(*answers):
    return [
        Record(sample=Sample(id=str(n), audio=("a",), references=("x",)), answer=answer)
        for n, answer in enumerate(answers)
    ]


def resources(**verdicts):
    return Resources(
        embedder=lambda: None, verdicts={name.removeprefix("s"): v for name, v in verdicts.items()}
    )


def test_the_mean_is_over_judged_answers_and_an_empty_one_scores_zero():
    scores = judged(records("a", "b", "", "c"), resources(s0=8.0, s1=4.0))

    assert scores.measures["judge"].of(np.arange(4)) == (8 + 4 + 0) / 3
    assert scores.details["judged"] == "3 of 4 answers"
    assert scores.details["without a verdict"] == "1 answers, which are not in the mean"


def test_without_verdicts_there_is_no_number_but_a_reason():
    scores = judged(records("a"), resources())

    assert not scores.measures
    assert "--judge MODEL@URL" in scores.unavailable["judge"]
