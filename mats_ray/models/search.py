"""How one answer is searched for, one step of the language model at a time: greedily, by chance, or by beams.

A search owns the rows of its answer and nothing else, so answers of any kind and age can share a batch.

Shapes: K rows of this answer, V vocabulary, T ids so far.
"""

import itertools
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from mats_ray.errors import AnswerError

_GREEDY_BELOW = torch.finfo(torch.float32).tiny
"""Temperatures without a normal float32 draw nothing but the likeliest token."""


@dataclass(frozen=True, slots=True)
class Step:
    """What the next forward pass computes for one answer."""

    parents: list[int]
    """Which of its rows each row goes on from; all zero after the prompt, which has one row."""
    tokens: list[int]


class Search(Protocol):
    """One answer on its way."""

    ids: list[int]
    """Ids that no further step will change, EOS cut off; all of them once it is done."""
    ended: bool
    """The model ended the answer itself."""

    def advance(self, logits_KV: Tensor) -> Step | None:
        """Take the logits behind each row, (1, V) behind the prompt; None: the answer is done.

        Raises:
            AnswerError: Some are NaN or infinite, or no token may follow.
        """
        ...


def check_scores(scores: Tensor) -> None:
    """Refuse scores that no token can be chosen by: NaN, plus infinity, or a best one of minus infinity.

    Args:
        scores: (..., V), or (..., 1) of the best ones only.

    Raises:
        AnswerError: There are some.
    """
    if not bool(scores.amax(-1).isfinite().all()):  # the maximum of a row with NaN is NaN
        raise AnswerError(
            "the language model computed numbers that are not finite; this answer has none",
            code="answer_failed",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalties:
    """What makes a model repeat itself less; looks at generated ids only."""

    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0

    def apply(self, ids_KT: Tensor, scores_KV: Tensor) -> Tensor:
        """Return the scores (K, V) with penalties.

        Raises:
            AnswerError: The scores are not finite.
        """
        check_scores(scores_KV)
        if self.repetition_penalty != 1:
            scores_KV = RepetitionPenaltyLogitsProcessor(self.repetition_penalty)(_long(ids_KT), scores_KV)
            scores_KV = scores_KV.clamp(max=torch.finfo(scores_KV.dtype).max)  # a tiny penalty overflows
        if self.no_repeat_ngram_size:
            scores_KV = NoRepeatNGramLogitsProcessor(self.no_repeat_ngram_size)(_long(ids_KT), scores_KV)
        return scores_KV


class LineSearch:
    """One row: the likeliest token, or one drawn by the answer's own seed.

    Args:
        eos_id: Ends the answer.
        max_new_tokens: Cuts it.
        penalties: Applied to logits.
        temperature: 0 is greedy, as is whatever float32 takes for 0.
        top_p: Draw among the likeliest tokens that together reach this probability.
        seed: What is drawn depends on it and on the logits, not on the batch.
    """

    def __init__(
        self,
        *,
        eos_id: int,
        max_new_tokens: int,
        penalties: Penalties,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.ids: list[int] = []
        self.ended = False
        self._eos_id, self._max_new_tokens, self._penalties = eos_id, max_new_tokens, penalties
        self._temperature, self._top_p = temperature, top_p
        self._generator = torch.Generator().manual_seed(seed)

    def advance(self, logits_KV: Tensor) -> Step | None:
        """Choose the next token."""
        ids_1T = torch.tensor([self.ids], dtype=torch.long, device=logits_KV.device)
        scores_V = self._penalties.apply(ids_1T, logits_KV[:1].float())[0]
        check_scores(scores_V)  # every token may be forbidden
        token = self._draw(scores_V) if self._temperature >= _GREEDY_BELOW else int(scores_V.argmax())
        self.ended = token == self._eos_id
        if self.ended:
            return None
        self.ids.append(token)
        return Step([0], [token]) if len(self.ids) < self._max_new_tokens else None

    def _draw(self, scores_V: Tensor) -> int:
        """Walk down from the likeliest token until a random share of the probability is behind."""
        scores_V = scores_V.cpu().double()
        below_best_V = scores_V - scores_V.max()  # at most 0: no temperature makes infinity of it
        probabilities_V, order_V = (below_best_V / self._temperature).softmax(0).sort(descending=True)
        reached_V = probabilities_V.cumsum(0)
        kept = int((reached_V - probabilities_V < self._top_p).sum())
        share = torch.rand((), generator=self._generator, dtype=torch.double) * reached_V[kept - 1]
        return int(order_V[min(int((reached_V < share).sum()), kept - 1)])


class BeamSearch:
    """K rows, transformers' beam search with its default settings (length penalty 1, no early stopping).

    Args:
        num_beams: K.
        eos_id: Ends an answer.
        max_new_tokens: Cuts it.
        penalties: Applied to log-probabilities.
    """

    def __init__(self, *, num_beams: int, eos_id: int, max_new_tokens: int, penalties: Penalties) -> None:
        self.ids: list[int] = []
        self.ended = False
        self._num_beams, self._eos_id = num_beams, eos_id
        self._max_new_tokens, self._penalties = max_new_tokens, penalties
        self._running: list[tuple[float, list[int]]] = [(0.0, [])]
        self._finished: list[tuple[float, list[int]]] = []

    def advance(self, logits_KV: Tensor) -> Step | None:
        """Extend every beam, keep the best, set aside those that ended."""
        candidates = self._best_continuations(logits_KV)
        length = len(self._running[0][1]) + 1
        at_limit = length >= self._max_new_tokens
        over = [at_limit or token == self._eos_id for _, _, token in candidates]
        extended = [(score, [*self._running[parent][1], token]) for score, parent, token in candidates]
        ended = [extended[rank] for rank in range(self._num_beams) if over[rank]]
        self._set_aside([(score / length, ids) for score, ids in ended])
        going = [rank for rank, is_over in enumerate(over) if not is_over][: self._num_beams]
        self._running = [extended[rank] for rank in going]
        if not going or not self._can_improve(length):
            return self._finish()
        self.ids = self._settled()
        return Step([candidates[rank][1] for rank in going], [candidates[rank][2] for rank in going])

    def _best_continuations(self, logits_KV: Tensor) -> list[tuple[float, int, int]]:
        """Return (score, beam, token) of the best 2 K: one EOS per beam still leaves K to go on with."""
        rows = len(self._running)
        device = logits_KV.device
        ids_KT = torch.tensor([ids for _, ids in self._running], dtype=torch.long, device=device)
        scores_KV = self._penalties.apply(ids_KT, logits_KV[:rows].float().log_softmax(-1))
        scores_KV = scores_KV + torch.tensor([[score] for score, _ in self._running], device=device)
        best, index = scores_KV.flatten().topk(min(2 * self._num_beams, scores_KV.numel()))
        check_scores(best)
        width = scores_KV.shape[1]
        return [
            (score, at // width, at % width) for score, at in zip(best.tolist(), index.tolist(), strict=True)
        ]

    def _set_aside(self, ended: list[tuple[float, list[int]]]) -> None:
        merged = sorted([*self._finished, *ended], key=lambda one: -one[0])
        self._finished = merged[: self._num_beams]

    def _can_improve(self, length: int) -> bool:
        if len(self._finished) < self._num_beams:
            return True
        return self._running[0][0] / length > self._finished[-1][0]

    def _settled(self) -> list[int]:
        """Return what all candidates begin with: the answer is one of them or grows out of one."""
        candidates = [ids for _, ids in (*self._running, *self._finished)]
        common = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*candidates, strict=False))
        return _without_eos([column[0] for column in common], self._eos_id)

    def _finish(self) -> None:
        ids = self._finished[0][1]
        self.ended = self._eos_id in ids
        self.ids = _without_eos(ids, self._eos_id)


def _without_eos(ids: list[int], eos_id: int) -> list[int]:
    return ids[: ids.index(eos_id)] if eos_id in ids else ids


def _long(ids: Tensor) -> Any:
    """Tensor of int64, for which transformers' annotations have a class that tensors are not of."""
    return ids
