"""Answers to questions against the reference: equal as a whole, or overlap of words."""

import string
from collections.abc import Sequence
from functools import partial

import numpy as np

from mats_ray.evaluate.benchmark import Record, Resources, Scores
from mats_ray.evaluate.extra import is_installed, require
from mats_ray.evaluate.measure import Measure
from mats_ray.evaluate.metrics.captions import MAX_ORDER, Texts, bleu, meteor, rouge_l, score_texts
from mats_ray.evaluate.metrics.java import UnavailableError

BINARY = frozenset({"yes", "no"})
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_answers(records: Sequence[Record], _: Resources) -> Scores:
    """Share of answers that are a reference, in all samples and in those whose reference is yes or no.

    Case, punctuation and spaces do not count, every other character does: "Yes." is "yes"; "yes, it is" is
    wrong, and so is "a dog" for "dog". It is the rule of lmms-eval; MATS' own is not published. Qwen-Audio
    compares with the answer of every annotator, UltraEval-Audio with the beginning of the answer.
    """
    if bare := sum(not one.sample.references for one in records):
        reason = f"{bare} of {len(records)} samples have no reference"
        return Scores(measures={}, unavailable={"accuracy": reason, "binary_accuracy": reason})
    references = [{normalized(text) for text in one.sample.references} for one in records]
    answers = [normalized(one.answer) for one in records]
    right = [bool(one) and one in others for one, others in zip(answers, references, strict=True)]
    right_N = np.array(right, dtype=np.float64)
    measures = {"accuracy": Measure.mean(right_N)}
    binary_N = np.array([others <= BINARY for others in references], dtype=np.bool_)
    if not binary_N.any():
        return Scores(measures=measures, unavailable={"binary_accuracy": "no reference is yes or no"})
    measures["binary_accuracy"] = Measure.mean(np.where(binary_N, right_N, np.nan), chance=0.5)
    return Scores(measures=measures, details={"yes/no": str(binary_N.sum())})


def normalized(text: str) -> str:
    """Return a text in lower case without punctuation, its words one space apart."""
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())


def text_overlap(records: Sequence[Record], _: Resources) -> Scores:
    """Overlap of answers in free words with their references: ROUGE-L, METEOR, BLEU 1 to 4, BERTScore.

    All but BERTScore are computed as for captions. MU-LLaMA's script gives other numbers under these names:
    recall of stems as ROUGE-L, NLTK's METEOR, and BLEU of characters, a mean over answers.
    """
    orders = {f"bleu_{order}": partial(bleu, order=order) for order in range(1, MAX_ORDER + 1)}
    return score_texts(records, {"rouge_l": rouge_l, "meteor": meteor, **orders, "bert_score": _bert_score})


def _bert_score(texts: Texts) -> Measure:
    """Recall of BERTScore by its default model for English, which is what MU-LLaMA reports."""
    if not is_installed("bert_score"):
        raise UnavailableError("BERTScore needs bert-score, which is not installed, and its model")
    answers = [one.answer for one in texts.records]
    references = [list(one.sample.references) for one in texts.records]
    try:
        _, recall_N, _ = require("bert_score").score(answers, references, lang="en")
    except OSError as error:
        raise UnavailableError(f"BERTScore lacks its model: {error}") from error
    answered_N = np.array([bool(candidate) for candidate in texts.candidates])
    return Measure.mean(np.where(answered_N, recall_N.numpy(), 0))
