"""The rules of MMAU, old and new, on hand-made answers and on the published questions."""

import numpy as np
import pytest

from mats_ray.evaluate.metrics.choices import substring_choice, token_choice
from tests.unit.evaluate.scoring import NOTHING, mmau_test_mini, record, values

CHOICES = ("Man", "Woman", "Child", "Robot voice")


def scored(scorer, answer, right="Man", choices=CHOICES):
    one = [record(answer, right, choices=choices)]
    return values(scorer(one, NOTHING), one)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Man", True),
        ("man.", True),
        ("The answer is Man.", True),
        ("(A) Man", True),
        ("A", False),
        ("Man or Woman", False),
        ("a man, not a child", False),
        ("a human", False),
        ("", False),
        ("?!", False),
    ],
)
def test_the_rule_of_2025_wants_all_words_of_the_right_choice_and_none_of_a_wrong_one(answer, right):
    assert scored(token_choice, answer)["accuracy"] == right


def test_words_of_a_wrong_choice_that_are_also_in_the_right_one_are_allowed():
    choices = ("two dogs", "three dogs", "two cats")

    assert scored(token_choice, "two dogs", "two dogs", choices)["accuracy"] == 1
    assert scored(token_choice, "three dogs", "two dogs", choices)["accuracy"] == 0


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Child", True),
        ("It is a child's voice", True),
        ("childhood", True),
        ("Child or Robot voice", False),
        ("C", False),
        ("", False),
    ],
)
def test_the_rule_of_2024_wants_the_right_choice_as_a_part_and_no_other(answer, right):
    assert scored(substring_choice, answer, "Child")["accuracy"] == right


def test_the_rule_of_2024_counts_a_choice_as_wrong_that_holds_another():
    assert scored(substring_choice, "Woman", "Woman") == {"accuracy": 0, "accuracy_2025": 1}


@pytest.mark.parametrize("answer", ["Man", "Woman", "man in a childhood", "A"])
def test_both_scorers_have_both_rules_each_with_its_own_first(answer):
    new, old = scored(token_choice, answer), scored(substring_choice, answer)

    assert list(new) == ["accuracy", "accuracy_2024"]
    assert list(old) == ["accuracy", "accuracy_2025"]
    assert (new["accuracy"], new["accuracy_2024"]) == (old["accuracy_2025"], old["accuracy"])


def test_predictions_are_the_choices_that_the_first_rule_finds():
    answers = ["the man", "Woman", "nobody", "", "Man and Child"]
    records = [record(answer, "Man", choices=CHOICES) for answer in answers]

    assert token_choice(records, NOTHING).predictions == ["Man", "Woman", "", "", ""]


def test_an_empty_answer_is_wrong_and_counted():
    records = [record("Man", "Man", choices=CHOICES), record(" ", "Man", choices=CHOICES)]

    assert values(token_choice(records, NOTHING), records) == {"accuracy": 0.5, "accuracy_2024": 0.5}


def test_chance_is_the_mean_share_of_one_choice():
    records = [record("Man", "Man", choices=("Man", "Dog")), record("Man", "Man", choices=CHOICES)]

    assert token_choice(records, NOTHING).measures["accuracy"].chance == pytest.approx(0.375)


def test_a_split_without_answers_has_no_score_and_no_zero():
    scores = token_choice([record("Man", choices=CHOICES)], NOTHING)

    assert (scores.measures, scores.predictions) == ({}, ())
    assert set(scores.unavailable) == {"accuracy", "accuracy_2024"}
    assert "1 of 1 samples is not published" in scores.unavailable["accuracy"]


def answered(rows, write):
    return [record(write(row), row["answer"], choices=tuple(row["choices"])) for row in rows]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("write", "new", "old"),
    [
        ("{answer}", 1_000, 992),
        ("The answer is {answer}.", 907, 987),
        ("({letter}) {answer}", 967, 991),
        ("{letter}", 2, 2),
        ("", 0, 0),
    ],
)
def test_on_mmau_test_mini_the_rules_count_what_the_published_script_counts(write, new, old):
    def text(row):
        return write.format(answer=row["answer"], letter="ABCDEFGH"[row["choices"].index(row["answer"])])

    records = answered(mmau_test_mini(), text)
    found = values(token_choice(records, NOTHING), records)

    assert {name: round(share * 1_000) for name, share in found.items()} == {
        "accuracy": new,
        "accuracy_2024": old,
    }


@pytest.mark.shared
def test_on_mmau_test_mini_a_random_choice_is_right_about_as_often_as_chance_says():
    rows, draw = mmau_test_mini(), np.random.default_rng(0)
    records = answered([row for row in rows for _ in range(5)], lambda row: draw.choice(row["choices"]))

    measure = token_choice(records, NOTHING).measures["accuracy"]

    assert measure.chance == pytest.approx(0.2554, abs=1e-4)
    assert measure.of(np.arange(5_000)) == pytest.approx(measure.chance, abs=0.02)
