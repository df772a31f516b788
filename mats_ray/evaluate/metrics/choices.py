r"""Questions with choices, by the rules of MMAU (Sakshi113/MMAU, ``evaluation.py``), of 2025 and of 2024.

The rule since January 2025 compares sets of words, ``\b\w+\b`` in lower case: right is an answer that has
all words of the right choice, and no word that is in a wrong choice alone. MMAR has the same rule. That of
October 2024, of the time of the paper, compares characters: the right choice is part of the answer, and no
other one is. It counts "Woman" as wrong where "Man" is a choice. Neither understands letters.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np

from mats_ray.evaluate.benchmark import Record, Resources, Scores
from mats_ray.evaluate.measure import Measure

Rule = Callable[[str, str, Sequence[str]], bool]
"""Right choice, answer and all choices to whether the answer is right."""


def token_choice(records: Sequence[Record], _: Resources) -> Scores:
    """Share of answers that are right by the rule of 2025; ``accuracy_2024`` is by that of 2024."""
    return _score(records, {"accuracy": matches_words, "accuracy_2024": matches_characters})


def substring_choice(records: Sequence[Record], _: Resources) -> Scores:
    """Share of answers that are right by the rule of 2024; ``accuracy_2025`` is by that of 2025."""
    return _score(records, {"accuracy": matches_characters, "accuracy_2025": matches_words})


def matches_words(right: str, answer: str, choices: Sequence[str]) -> bool:
    """Whether an answer is the right choice by MMAU's rule of 2025."""
    right_words, words = _words(right), _words(answer)
    wrong_words = set[str]().union(*map(_words, choices)) - right_words
    return bool(words) and right_words <= words and words.isdisjoint(wrong_words)


def matches_characters(right: str, answer: str, choices: Sequence[str]) -> bool:
    """Whether an answer is the right choice by MMAU's rule of 2024, here without regard to case."""
    right, answer = right.lower(), answer.lower()
    others = {choice.lower() for choice in choices} - {right}
    return right in answer and not any(other in answer for other in others)


def _score(records: Sequence[Record], rules: dict[str, Rule]) -> Scores:
    """Make a measure of each rule; choices are found by the first.

    As chance stands the mean share of one choice among a sample's. Samples without an answer are wrong;
    MMAU's script leaves them out, which raises the share.
    """
    if bare := sum(not one.sample.references for one in records):
        reason = f"the right choice of {bare} of {len(records)} samples is not published"
        return Scores(measures={}, unavailable=dict.fromkeys(rules, reason))
    chance = float(np.mean([1 / max(len(one.sample.choices), 1) for one in records])) if records else None
    found = {name: [_found(one, rule) for one in records] for name, rule in rules.items()}
    measures = {
        name: Measure.mean(_is_right(choices, records), chance=chance) for name, choices in found.items()
    }
    return Scores(measures=measures, predictions=next(iter(found.values())))


def _found(record: Record, rule: Rule) -> str:
    """Return the choice that an answer is by a rule, the right one before others; empty where it is none."""
    if not record.answer.strip():
        return ""
    candidates = [record.sample.references[0], *record.sample.choices]
    hits = (one for one in candidates if rule(one, record.answer, record.sample.choices))
    return next(hits, "")


def _is_right(choices: Sequence[str], records: Sequence[Record]) -> np.ndarray:
    pairs = zip(choices, records, strict=True)
    return np.array([choice == one.sample.references[0] for choice, one in pairs], dtype=np.float64)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\b\w+\b", text.lower()))
