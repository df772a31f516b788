"""Captions against human ones: CIDEr-D, SPICE, SPIDEr, METEOR, ROUGE-L, BLEU-4 by pycocoevalcap, and FENSE.

All but FENSE are made of the words that ``penn_treebank`` finds. Each value is what pycocoevalcap returns for
all samples; CIDEr-D weighs words by the references of all samples, also where a part of them is selected.
Shapes: N samples, S samples of a selection, O orders of n-grams.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from mats_ray.evaluate.benchmark import Record, Resources, Scores
from mats_ray.evaluate.extra import is_installed, require
from mats_ray.evaluate.measure import Measure
from mats_ray.evaluate.metrics import java
from mats_ray.evaluate.metrics.java import UnavailableError
from mats_ray.evaluate.metrics.penn_treebank import tokenize

TOKENIZER = "regular expression in the manner of Stanford's PTBTokenizer 3.4.1"
MAX_ORDER = 4
_SMALL, _TINY = 1e-9, 1e-15
"""What pycocoevalcap adds to counts against division by zero."""
_FENSE_SENTENCES = "paraphrase-TinyBERT-L6-v2"
_FENSE_CHECKER = "echecker_clotho_audiocaps_base"

Maker = Callable[["Texts"], Measure]


@dataclass(frozen=True, eq=False)
class Texts:
    """Answers and references of samples, and their words, one space apart; every text is tokenized once."""

    records: Sequence[Record]

    @cached_property
    def candidates(self) -> list[str]:
        """Words of each answer."""
        return [self._words[one.answer] for one in self.records]

    @cached_property
    def references(self) -> list[list[str]]:
        """Words of each sample's references."""
        return [[self._words[text] for text in one.sample.references] for one in self.records]

    @cached_property
    def spice(self) -> Measure:
        """SPICE, which SPIDEr needs as well.

        Raises:
            UnavailableError: It cannot be computed here.
        """
        return java.spice(self.candidates, self.references)

    @cached_property
    def cider_d(self) -> Measure:
        """CIDEr-D as pycocoevalcap prints it, about 0 to 10."""
        if not any(map(any, self.references)):
            return Measure.mean(np.zeros(len(self.records)))  # the library fails without a single word
        scorer = require("pycocoevalcap.cider.cider").Cider()
        return Measure.mean(scorer.compute_score(*self.as_coco())[1])

    @cached_property
    def counts(self) -> np.ndarray:
        """What BLEU is made of (N, 2 + 2 O): words of answer and closest reference, n-grams, equal ones."""
        library = require("pycocoevalcap.bleu.bleu_scorer")
        rows = []
        for candidate, others in zip(self.candidates, self.references, strict=True):
            found = library.cook_test(candidate, library.cook_refs(others, n=MAX_ORDER), "closest", MAX_ORDER)
            rows.append([found["testlen"], found["reflen"], *found["guess"], *found["correct"]])
        return np.array(rows, dtype=np.int64).reshape(len(rows), 2 + 2 * MAX_ORDER)

    @cached_property
    def _words(self) -> dict[str, str]:
        texts = (text for one in self.records for text in (one.answer, *one.sample.references))
        return {text: tokenize(text) for text in dict.fromkeys(texts)}

    def as_coco(self) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
        """Return references and answers as pycocoevalcap takes them: lists by number of sample."""
        return dict(enumerate(self.references)), {n: [one] for n, one in enumerate(self.candidates)}


def caption_scores(records: Sequence[Record], _: Resources) -> Scores:
    """Score captions of sounds: CIDEr-D first."""
    return score_texts(records, _MEASURES)


def music_caption_scores(records: Sequence[Record], _: Resources) -> Scores:
    """Score captions of music: ROUGE-L and BLEU-4 first."""
    return score_texts(records, {name: _MEASURES[name] for name in ("rouge_l", "bleu_4")} | _MEASURES)


def score_texts(records: Sequence[Record], makers: Mapping[str, Maker]) -> Scores:
    """Make measures of texts; those that cannot be had are named with the reason.

    Args:
        records: Their samples have one reference or more, any number each.
        makers: By name of the measure.
    """
    if bare := sum(not one.sample.references for one in records):
        reason = f"{bare} of {len(records)} samples have no reference"
        return Scores(measures={}, unavailable=dict.fromkeys(makers, reason))
    texts, measures, unavailable = Texts(records), dict[str, Measure](), dict[str, str]()
    for name, make in makers.items():
        try:
            measures[name] = make(texts)
        except UnavailableError as error:
            unavailable[name] = str(error)
    details = {"tokenizer": TOKENIZER, "pycocoevalcap": version("pycocoevalcap")}
    return Scores(measures=measures, unavailable=unavailable, details=details)


def spider(texts: Texts) -> Measure:
    """Half the sum of CIDEr-D and SPICE.

    Raises:
        UnavailableError: SPICE cannot be computed here.
    """
    assert texts.spice.values_N is not None
    assert texts.cider_d.values_N is not None
    return Measure.mean((texts.spice.values_N + texts.cider_d.values_N) / 2)


def rouge_l(texts: Texts) -> Measure:
    """ROUGE-L, an F value of 0 to 1 with beta 1.2, of the best precision and the best recall."""
    scorer = require("pycocoevalcap.rouge.rouge").Rouge()
    values = [  # the library takes a text without words for one empty word, equal to another such text's
        scorer.calc_score([candidate], others) if candidate else 0.0
        for candidate, others in zip(texts.candidates, texts.references, strict=True)
    ]
    return Measure.mean(np.array(values))


def bleu(texts: Texts, order: int) -> Measure:
    """BLEU of all samples together, 0 to 1, with n-grams up to an order; it is no mean over samples."""
    counts_NC = texts.counts
    return Measure(of=lambda index_S: bleu_score(counts_NC[index_S].sum(axis=0), order))


def bleu_score(counts_C: np.ndarray, order: int) -> float:
    """Compute BLEU of the sums of ``Texts.counts`` over samples.

    Args:
        counts_C: (2 + 2 O).
        order: Longest n-grams that count.
    """
    words, words_of_reference = counts_C[:2]
    guessed_O, correct_O = counts_C[2 : 2 + order], counts_C[2 + MAX_ORDER :][:order]
    precision = float(np.prod((correct_O + _TINY) / (guessed_O + _SMALL)) ** (1 / order))
    ratio = (words + _TINY) / (words_of_reference + _SMALL)
    return precision if ratio >= 1 else precision * float(np.exp(1 - 1 / ratio))


def meteor(texts: Texts) -> Measure:
    """METEOR 1.5.

    Raises:
        UnavailableError: There is no Java.
    """
    return java.meteor(texts.candidates, texts.references)


def fense(texts: Texts) -> Measure:
    """FENSE: similarity of sentence embeddings to the references, a tenth of it where the wording is broken.

    Raises:
        UnavailableError: aac-metrics or one of its models is not on this machine.
    """
    if not is_installed("aac_metrics"):
        raise UnavailableError("FENSE needs aac-metrics, which is not installed, and its models")
    folder = os.environ.get("FENSE_DATA") or f"{require('torch').hub.get_dir()}/fense_data"
    if not (checker := Path(folder).expanduser() / f"{_FENSE_CHECKER}.ckpt").is_file():
        raise UnavailableError(f"FENSE needs {checker}, which aac-metrics-download fetches")
    sentences = require("sentence_transformers").SentenceTransformer
    try:
        _, found = require("aac_metrics.functional.fense").fense(
            [one.answer for one in texts.records],
            [list(one.sample.references) for one in texts.records],
            sbert_model=sentences(_FENSE_SENTENCES, local_files_only=True),
            echecker=_FENSE_CHECKER,
        )
    except OSError as error:
        raise UnavailableError(f"FENSE lacks a model: {error}") from error
    answered_N = np.array([bool(candidate) for candidate in texts.candidates])
    return Measure.mean(np.where(answered_N, found["fense"].cpu().numpy(), 0))


_MEASURES: dict[str, Maker] = {
    "cider_d": lambda texts: texts.cider_d,
    "spice": lambda texts: texts.spice,
    "spider": spider,
    "meteor": meteor,
    "rouge_l": rouge_l,
    "bleu_4": partial(bleu, order=4),
    "fense": fense,
}
