"""Answers are matched to labels by an embedder, here one of bags of words."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from mats_ray.evaluate.benchmark import Resources
from mats_ray.evaluate.metrics.labels import (
    answer_text,
    label_accuracy,
    label_set,
    label_text,
    mean_average_precision,
)
from tests.unit.evaluate.scoring import BagOfWords, every, record, values

LABELS = ["dog", "crying_baby", "door_wood_knock", "sea_waves", "mouse_click", "church_bells", "rain", "cow"]


@pytest.fixture
def resources():
    embedder = BagOfWords()
    return Resources(embedder=lambda: embedder)


def gold(times=1):
    return [record(label.replace("_", " "), label) for label in LABELS for _ in range(times)]


def shuffled(times):
    labels = np.repeat(LABELS, times)
    answers = np.random.default_rng(0).permutation(labels)
    return [record(answer.replace("_", " "), label) for answer, label in zip(answers, labels, strict=True)]


def test_gold_labels_score_one(resources):
    records = gold(3)

    assert values(label_accuracy(records, resources), records) == {"accuracy": 1, "macro_f1": 1}
    assert values(mean_average_precision(records, resources), records)["map"] == pytest.approx(1)


def test_shuffled_labels_score_about_chance(resources):
    records = shuffled(200)
    accuracy = label_accuracy(records, resources).measures["accuracy"]
    precision = mean_average_precision(records, resources).measures["map"]

    assert accuracy.chance == precision.chance == 1 / 8
    assert accuracy.of(every(records)) == pytest.approx(accuracy.chance, abs=0.03)
    assert precision.of(every(records)) == pytest.approx(precision.chance, abs=0.03)


def test_an_empty_answer_scores_zero_and_is_matched_to_nothing(resources):
    records = [record("", "dog"), record("dog", "dog"), record("  ", "rain")]
    scores = label_accuracy(records, resources)

    assert scores.predictions == ["", "dog", ""]
    assert scores.measures["accuracy"].values_N.tolist() == [0, 1, 0]


def test_an_empty_answer_ranks_last(resources):
    records = [record("", "dog"), record("rain", "rain"), record("dog", "dog")]

    found = mean_average_precision(records, resources)

    assert found.per_class == pytest.approx({"dog": (1 + 2 / 3) / 2, "rain": 1})


def test_the_mean_average_precision_is_that_of_scikit_learn(resources):
    answers = ["a dog in the rain", "rain on a door", "church bells", "", "sea waves and a crying baby"]
    truths = [("dog", "rain"), ("rain",), ("church_bells", "rain"), ("dog",), ("sea_waves", "crying_baby")]
    records = [record(answer, *labels) for answer, labels in zip(answers, truths, strict=True)]
    labels = label_set(records)
    embed = BagOfWords().encode
    cosine_NL = embed([answer_text(one) for one in answers]) @ embed([label_text(one) for one in labels]).T
    cosine_NL[3] = -1
    truth_NL = np.array([[label in one for label in labels] for one in truths])

    # two embedders that met the words in another order: directions differ, cosines do not
    found = mean_average_precision(records, resources)

    theirs = average_precision_score(truth_NL, scores_of_one(cosine_NL, answers, labels), average=None)
    assert list(found.per_class) == labels
    assert list(found.per_class.values()) == pytest.approx(theirs)
    assert found.measures["map"].of(every(records)) == pytest.approx(np.mean(theirs))


def scores_of_one(cosine_NL, answers, labels):
    """Cosines by one embedder that has met all words."""
    embedder = BagOfWords()
    vectors = embedder.encode([*map(answer_text, answers), *map(label_text, labels)])
    fresh_NL = vectors[: len(answers)] @ vectors[len(answers) :].T
    return np.where(cosine_NL == -1, -1, fresh_NL)


def test_macro_f1_is_that_of_scikit_learn(resources):
    records = [record("dog", "dog"), record("rain", "dog"), record("rain", "rain"), record("", "cow")]

    found = values(label_accuracy(records, resources), records)["macro_f1"]

    truth, answers = ["dog", "dog", "rain", "cow"], ["dog", "rain", "rain", ""]
    labels = ["cow", "dog", "rain"]
    assert found == pytest.approx(f1_score(truth, answers, labels=labels, average="macro", zero_division=0))


def test_underscores_of_labels_are_spaces(resources):
    records = [record("someone knocks on a wood door", "door_wood_knock"), *gold()]

    assert label_text("Door_wood_knock") == "sound of door wood knock"
    assert label_accuracy(records, resources).predictions[0] == "door_wood_knock"


def test_only_what_follows_the_last_colon_is_matched(resources):
    records = [record("Labels: rain: the dog", "dog"), *gold()]

    assert answer_text("Labels: rain: The Dog ") == "sound of the dog"
    assert label_accuracy(records, resources).predictions[0] == "dog"


def test_any_of_several_labels_counts_in_a_measure_of_its_own(resources):
    records = [record("rain", "dog", "rain"), record("dog", "dog", "cow"), *gold()]

    found = values(label_accuracy(records, resources), records)

    assert found["accuracy"] == pytest.approx(9 / 10)
    assert found["any_label"] == 1


def test_a_benchmark_of_many_answers_is_embedded_in_two_calls(resources):
    label_accuracy(gold(50), resources)

    assert resources.embedder().calls == 2


def test_the_embedders_name_stands_in_the_details(resources):
    assert label_accuracy(gold(), resources).details == {"embedder": "bag of words", "labels": "8"}
