"""Answers are right as a whole, or score by the words they share with the reference."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from mats_ray.evaluate.metrics import answers
from mats_ray.evaluate.metrics.answers import exact_answers, normalized, text_overlap
from tests.unit.evaluate.scoring import NOTHING, record, values


@pytest.fixture(autouse=True)
def no_java(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("yes", True),
        (" Yes. ", True),
        ("YES!", True),
        ("yes, it is", False),
        ("no", False),
        ("", False),
        ("...", False),
    ],
)
def test_case_punctuation_and_spaces_do_not_count_and_all_else_does(answer, right):
    scores = values(exact_answers([record(answer, "yes")], NOTHING), [0])

    assert scores == {"accuracy": right, "binary_accuracy": right}


def test_articles_count():
    assert normalized("A dog") != normalized("dog")
    assert values(exact_answers([record("a dog", "dog")], NOTHING), [0])["accuracy"] == 0


def test_an_answer_may_equal_any_of_several_references():
    records = [record("rain", "water", "Rain."), record("wind", "water", "rain")]

    assert values(exact_answers(records, NOTHING), records)["accuracy"] == 0.5


def test_binary_accuracy_counts_the_questions_whose_reference_is_yes_or_no():
    records = [record("yes", "yes"), record("two", "two"), record("no", "YES"), record("", "no")]
    scores = exact_answers(records, NOTHING)

    assert values(scores, records) == {"accuracy": 0.5, "binary_accuracy": pytest.approx(1 / 3)}
    binary = scores.measures["binary_accuracy"]
    assert binary.of(np.array([1])) == 0
    assert binary.of(np.array([0, 0, 1, 2])) == pytest.approx(2 / 3)
    assert binary.chance == 0.5
    assert scores.details["yes/no"] == "3"


def test_an_empty_answer_is_wrong_and_counted():
    records = [record("two", "two"), record("", "three"), record("", "?")]

    assert values(exact_answers(records, NOTHING), records)["accuracy"] == pytest.approx(1 / 3)


def test_without_yes_no_questions_there_is_no_binary_accuracy():
    scores = exact_answers([record("two", "two")], NOTHING)

    assert list(scores.measures) == ["accuracy"]
    assert scores.unavailable == {"binary_accuracy": "no reference is yes or no"}


def test_answers_that_are_not_published_give_no_score():
    scores = exact_answers([record("yes"), record("no", "no")], NOTHING)

    assert scores.measures == {}
    assert set(scores.unavailable) == {"accuracy", "binary_accuracy"}
    assert "1 of 2" in scores.unavailable["accuracy"]


def test_gold_answers_overlap_wholly_and_others_less():
    texts = [
        "The audio is a slow piano piece.",
        "It has a happy mood and a fast tempo.",
        "A harp plays alone.",
    ]
    gold = [record(text, text) for text in texts]
    turned = [record(text, other) for text, other in zip(texts, texts[1:] + texts[:1], strict=True)]

    best, other = values(text_overlap(gold, NOTHING), gold), values(text_overlap(turned, NOTHING), turned)

    assert list(best) == ["rouge_l", "bleu_1", "bleu_2", "bleu_3", "bleu_4"]
    assert best == pytest.approx(dict.fromkeys(best, 1), abs=1e-6)
    assert all(other[name] < 0.5 for name in other)


def test_what_overlap_lacks_is_named():
    unavailable = text_overlap([record("a dog", "a dog")], NOTHING).unavailable

    assert unavailable["meteor"] == "there is no java on PATH"
    assert "bert-score, which is not installed" in unavailable["bert_score"]


def test_bert_score_is_the_recall_where_the_package_is_there(monkeypatch):
    values_of = {"a dog": 0.9, "": 0.8}

    def score(candidates, references, lang):
        recall = np.array([values_of[text] for text in candidates])
        return None, SimpleNamespace(numpy=lambda: recall), None

    monkeypatch.setattr(answers, "is_installed", lambda name: name == "bert_score")
    monkeypatch.setitem(sys.modules, "bert_score", SimpleNamespace(score=score))
    records = [record("a dog", "a dog"), record("", "a cat")]

    assert values(text_overlap(records, NOTHING), records)["bert_score"] == pytest.approx(0.45)


def test_bert_score_without_its_model_is_named(monkeypatch):
    def score(*_, **__):
        raise OSError("roberta-large is not cached")

    monkeypatch.setattr(answers, "is_installed", lambda name: name == "bert_score")
    monkeypatch.setitem(sys.modules, "bert_score", SimpleNamespace(score=score))

    scores = text_overlap([record("a dog", "a dog")], NOTHING)

    assert scores.unavailable["bert_score"] == "BERTScore lacks its model: roberta-large is not cached"
