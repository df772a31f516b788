"""Free text against a set of labels, as LTU does it (YuanGongND/ltu, ``src/ltu/eval``).

An answer is the label whose text is nearest in an embedding space (accuracy), or its cosines with all labels
are the scores of a ranking (mean average precision). Labels are those that occur in the references.
Shapes: N records, L labels, S samples of a selection, C embedding dim.
"""

from collections.abc import Sequence

import numpy as np

from mats_ray.evaluate.benchmark import Record, Resources, Scores
from mats_ray.evaluate.extra import require
from mats_ray.evaluate.measure import Measure

FRAME = "sound of {}"
"""LTU embeds labels and answers alike in these words."""


def label_accuracy(records: Sequence[Record], resources: Resources) -> Scores:
    """Share of answers whose nearest label is the sample's first one, and the macro F1.

    Of a sample with several labels LTU keeps one; ``any_label`` counts those whose nearest label is any of
    them, where there are such samples. An empty answer has no nearest label.
    """
    labels = label_set(records)
    found = _nearest(records, labels, resources)
    first_N = np.array([label == one.sample.references[0] for label, one in zip(found, records, strict=True)])
    any_N = np.array([label in one.sample.references for label, one in zip(found, records, strict=True)])
    measures = {
        "accuracy": Measure.mean(first_N, chance=1 / len(labels)),
        "macro_f1": _macro_f1(found, records),
    }
    if any(len(one.sample.references) > 1 for one in records):
        measures["any_label"] = Measure.mean(any_N)
    details = {"embedder": resources.embedder().name, "labels": str(len(labels))}
    return Scores(measures=measures, predictions=found, details=details)


def mean_average_precision(records: Sequence[Record], resources: Resources) -> Scores:
    """Mean over labels of the average precision by the cosines of all answers (LTU's mAP, no threshold).

    An empty answer ranks below all others for every label.
    """
    metrics = require("sklearn.metrics")
    labels = label_set(records)
    score_NL = _cosines(records, labels, resources)
    truth_NL = np.array([[label in one.sample.references for label in labels] for one in records])

    def average_precisions(index_S: np.ndarray) -> np.ndarray:
        truth_SL, score_SL = truth_NL[index_S], score_NL[index_S]
        present = np.flatnonzero(truth_SL.any(axis=0))  # a resample may have no sample of a rare label
        return np.array([metrics.average_precision_score(truth_SL[:, n], score_SL[:, n]) for n in present])

    def mean(index_S: np.ndarray) -> float:
        return float(average_precisions(index_S).mean()) if len(index_S) else 0.0

    measure = Measure(of=mean, chance=float(truth_NL.mean(axis=0).mean()))
    per_label = average_precisions(np.arange(len(records)))
    return Scores(
        measures={"map": measure},
        per_class=dict(zip(labels, per_label.tolist(), strict=True)),
        details={"embedder": resources.embedder().name, "labels": str(len(labels))},
    )


def label_set(records: Sequence[Record]) -> list[str]:
    """List the labels of all records, sorted."""
    return sorted({label for one in records for label in one.sample.references})


def label_text(label: str) -> str:
    """Write a label as it is embedded."""
    return FRAME.format(label.lower().replace("_", " "))


def answer_text(answer: str) -> str:
    """Write an answer as it is embedded: what stands behind its last colon."""
    return FRAME.format(answer.rpartition(":")[2].strip().lower())


def _nearest(records: Sequence[Record], labels: list[str], resources: Resources) -> list[str]:
    best_N = _cosines(records, labels, resources).argmax(axis=1)
    names = [labels[best] for best in best_N]
    return [name if one.answer.strip() else "" for name, one in zip(names, records, strict=True)]


def _cosines(records: Sequence[Record], labels: Sequence[str], resources: Resources) -> np.ndarray:
    """Cosines of answers and labels, (N, L); -1, the least there is, for an empty answer."""
    embedder = resources.embedder()
    different = sorted({answer_text(one.answer) for one in records if one.answer.strip()})
    cosine_NL = np.full((len(records), len(labels)), -1.0, np.float32)
    if different:
        cosine_DL = embedder.encode(different) @ embedder.encode([label_text(one) for one in labels]).T
        row_of = {text: row for row, text in enumerate(different)}
        answered = [n for n, one in enumerate(records) if one.answer.strip()]
        cosine_NL[answered] = cosine_DL[[row_of[answer_text(records[n].answer)] for n in answered]]
    return cosine_NL


def _macro_f1(found: Sequence[str], records: Sequence[Record]) -> Measure:
    metrics = require("sklearn.metrics")
    names = sorted({*found, *label_set(records)})
    index_of = {name: index for index, name in enumerate(names)}
    truth_N = np.array([index_of[one.sample.references[0]] for one in records])
    found_N = np.array([index_of[name] for name in found])

    def of(index_S: np.ndarray) -> float:
        present = np.unique(truth_N[index_S])
        arguments = {"labels": present, "average": "macro", "zero_division": 0}
        return (
            float(metrics.f1_score(truth_N[index_S], found_N[index_S], **arguments)) if len(index_S) else 0.0
        )

    return Measure(of=of)
