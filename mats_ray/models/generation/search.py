"""Choosing tokens from logits: greedily, by sampling, or by beam search.

A search holds the answers that joined a batch together with the same settings, and computes them together. It
equals transformers' ``generate`` token for token, and no answer depends on those beside it.

Shapes: A answers, W rows per answer, R = A W rows, K beams, N = 2 K candidates, T ids so far, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import LogitsProcessor, NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from mats_ray.errors import AnswerError

_GREEDY_BELOW = torch.finfo(torch.float32).tiny
"""Temperatures without a normal float32 always choose the likeliest token."""
_UNUSED = -1e9
"""Score of beams that do not exist yet; transformers' number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalties(LogitsProcessor):
    """Lowers the scores of repetitions; looks at generated ids only. Also a processor for ``generate``."""

    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores (R, V) with penalties.

        Raises:
            AnswerError: The scores are not finite.
        """
        check_scores(scores)
        ids_RT: torch.LongTensor = input_ids  # pyright: ignore[reportAssignmentType]
        if self.repetition_penalty != 1:
            scores = RepetitionPenaltyLogitsProcessor(float(self.repetition_penalty))(ids_RT, scores)  # pyright: ignore[reportArgumentType]
            scores = scores.clamp(max=torch.finfo(scores.dtype).max)  # a tiny penalty overflows
        if self.no_repeat_ngram_size:
            scores = NoRepeatNGramLogitsProcessor(self.no_repeat_ngram_size)(ids_RT, scores)  # pyright: ignore[reportArgumentType]
        return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How one answer is searched for.

    Attributes:
        max_new_tokens: Cuts the answer.
        num_beams: 1: one row, greedy or sampled; more: transformers' beam search with its defaults (length
            penalty 1, no early stopping).
        penalties: Applied to logits of one row, to log-probabilities of beams.
        temperature: 0 is greedy, as is every number that float32 rounds to 0. Beams are never sampled.
        top_p: Sample among the likeliest tokens that together reach this probability.
        seed: Sampled tokens depend on it and on the logits, not on the batch.
    """

    max_new_tokens: int
    num_beams: int = 1
    penalties: Penalties = field(default_factory=Penalties)
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(eq=False, slots=True)
class TokenSequence:
    """One answer: how to search for it, and what has been found."""

    settings: SearchSettings
    stream: bool = False
    """Keep ``ids`` up to date at every step, which costs beams a comparison."""
    ids: list[int] = field(default_factory=list)
    """Ids that no further step will change, EOS cut off; all of them once it is finished."""
    ended: bool = False
    """The model ended the answer itself."""
    is_finished: bool = False
    error: Exception | None = None
    """What ended the answer before it was complete."""

    def finish(self, ids: list[int], eos_id: int) -> None:
        """Complete the answer with ids that may hold EOS."""
        self.ended = eos_id in ids
        self.ids = ids[: ids.index(eos_id)] if self.ended else ids
        self.is_finished = True

    def fail(self, error: Exception) -> None:
        """End the answer without a result."""
        self.error, self.is_finished = error, True


class Search(Protocol):
    """Answers with rows in one batch."""

    sequences: list[TokenSequence]
    """Answers that go on, in the order of their rows."""
    width: int
    """W, number of rows per answer."""

    def advance(self, logits_RV: Tensor) -> tuple[list[int], list[int]]:
        """Choose tokens, finish answers that are complete and let them leave.

        Args:
            logits_RV: Logits behind each row; behind prompts, which have one row each, (A, V).

        Returns:
            For each row that goes on: the row it continues, and its next token.

        Raises:
            AnswerError: Some logits are NaN or infinite, or no token may follow. Then nothing has changed.
        """
        ...

    def selected(self, indices: Sequence[int]) -> "Search":
        """Return a search with some of the answers."""
        ...


def make_search(
    sequences: Sequence[TokenSequence], *, eos_id: int, device: torch.device | str = "cpu"
) -> Search:
    """Start a search for answers whose number of beams and penalties are equal."""
    kind = BeamSearch if sequences[0].settings.num_beams > 1 else SamplingSearch
    return kind(sequences, eos_id=eos_id, device=device)


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


class SamplingSearch:
    """One row per answer: the likeliest token, or one sampled with the answer's own seed."""

    width = 1

    def __init__(
        self, sequences: Sequence[TokenSequence], *, eos_id: int, device: torch.device | str = "cpu"
    ) -> None:
        self.sequences = list(sequences)
        self._eos_id = eos_id
        self._generators = [torch.Generator().manual_seed(one.settings.seed) for one in sequences]
        self._ids_AT = torch.zeros(len(sequences), 0, dtype=torch.long, device=device)

    def advance(self, logits_RV: Tensor) -> tuple[list[int], list[int]]:
        """Choose the next token of every answer, see ``Search.advance``."""
        scores_AV = self.sequences[0].settings.penalties(self._ids_AT, logits_RV.float())
        check_scores(scores_AV)  # every token may be forbidden
        tokens = scores_AV.argmax(-1).tolist()
        for index, sequence in enumerate(self.sequences):
            if sequence.settings.temperature >= _GREEDY_BELOW:
                tokens[index] = _sample(scores_AV[index], sequence.settings, self._generators[index])
        self._ids_AT = torch.cat([self._ids_AT, self._ids_AT.new_tensor(tokens)[:, None]], dim=1)
        for sequence, token in zip(self.sequences, tokens, strict=True):
            ids = [*sequence.ids, token]
            if token == self._eos_id or len(ids) >= sequence.settings.max_new_tokens:
                sequence.finish(ids, self._eos_id)
            else:
                sequence.ids = ids
        parents = [index for index, one in enumerate(self.sequences) if not one.is_finished]
        if len(parents) < len(self.sequences):
            self._keep(parents)
        return parents, [tokens[index] for index in parents]

    def selected(self, indices: Sequence[int]) -> "SamplingSearch":
        """Return a search with some of the answers."""
        chosen = SamplingSearch([], eos_id=self._eos_id)
        chosen.__dict__.update(self.__dict__)
        chosen._keep(indices)
        return chosen

    def _keep(self, indices: Sequence[int]) -> None:
        self.sequences = [self.sequences[index] for index in indices]
        self._generators = [self._generators[index] for index in indices]
        self._ids_AT = self._ids_AT[list(indices)]


def _sample(scores_V: Tensor, settings: SearchSettings, generator: torch.Generator) -> int:
    """Walk down from the likeliest token until a random share of the probability is behind."""
    scores_V = scores_V.cpu().double()
    below_best_V = scores_V - scores_V.max()  # at most 0: no temperature makes infinity of it
    probabilities_V, order_V = (below_best_V / settings.temperature).softmax(0).sort(descending=True)
    reached_V = probabilities_V.cumsum(0)
    kept = int((reached_V - probabilities_V < settings.top_p).sum())
    share = torch.rand((), generator=generator, dtype=torch.double) * reached_V[kept - 1]
    return int(order_V[min(int((reached_V < share).sum()), kept - 1)])


class BeamSearch:
    """K rows per answer behind its prompt's one; transformers' beam search."""

    def __init__(
        self, sequences: Sequence[TokenSequence], *, eos_id: int, device: torch.device | str = "cpu"
    ) -> None:
        num_answers, num_beams = len(sequences), sequences[0].settings.num_beams
        self.sequences, self.width = list(sequences), 1
        self._num_beams, self._eos_id = num_beams, eos_id
        limits = [one.settings.max_new_tokens for one in sequences]
        self._limit_A1 = torch.tensor(limits, device=device)[:, None]
        self._score_AW = torch.zeros(num_answers, 1, device=device)
        self._ids_AWT = torch.zeros(num_answers, 1, 0, dtype=torch.long, device=device)
        self._done_score_AK = torch.full((num_answers, num_beams), -torch.inf, device=device)
        self._done_ids_AKT = torch.zeros(num_answers, num_beams, 0, dtype=torch.long, device=device)

    def advance(self, logits_RV: Tensor) -> tuple[list[int], list[int]]:
        """Extend every beam, keep the best, set aside those that ended, see ``Search.advance``."""
        score_AN, parent_AN, ids_ANT = self._candidates(logits_RV)
        length = ids_ANT.shape[2]
        over_AN = (ids_ANT[:, :, -1] == self._eos_id) | (length >= self._limit_A1)
        self._set_aside(score_AN / length, ids_ANT, over_AN)
        going_AK = over_AN.int().argsort(dim=1, stable=True)[:, : self._num_beams]
        self._score_AW, self._ids_AWT = score_AN.gather(1, going_AK), _gather(ids_ANT, going_AK)
        self.width = self._num_beams
        can_improve_A = self._score_AW[:, 0] / length > self._done_score_AK[:, -1]
        goes_on_A = can_improve_A & ~over_AN.all(dim=1)
        parent_AK = parent_AN.gather(1, going_AK)
        self._finish(goes_on_A.tolist())
        self._stream()
        return parent_AK[goes_on_A].flatten().tolist(), self._ids_AWT[:, :, -1].flatten().tolist()

    def selected(self, indices: Sequence[int]) -> "BeamSearch":
        """Return a search with some of the answers."""
        chosen = BeamSearch(self.sequences[:1], eos_id=self._eos_id)
        chosen.__dict__.update(self.__dict__)
        chosen._keep(indices)
        return chosen

    def _candidates(self, logits_RV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the best 2 K continuations: scores, rows they continue, ids. One EOS per beam leaves K."""
        (num_answers, width), vocabulary = self._score_AW.shape, logits_RV.shape[1]
        penalties = self.sequences[0].settings.penalties
        log_RV = penalties(self._ids_AWT.flatten(0, 1), logits_RV.float().log_softmax(-1))
        total_AWV = self._score_AW[:, :, None] + log_RV.view(num_answers, width, -1)
        if width * vocabulary < 2 * self._num_beams:  # a prompt with few continuations
            total_AWV = torch.cat(
                [total_AWV, (log_RV + _UNUSED)[:, None].expand(-1, self._num_beams - 1, -1)], dim=1
            )
        score_AN, at_AN = total_AWV.flatten(1).topk(2 * self._num_beams)
        check_scores(score_AN)
        beam_AN, token_AN = (at_AN // vocabulary).clamp(max=width - 1), at_AN % vocabulary
        first_A1 = width * torch.arange(num_answers, device=at_AN.device)[:, None]
        ids_ANT = torch.cat([_gather(self._ids_AWT, beam_AN), token_AN[:, :, None]], dim=2)
        return score_AN, first_A1 + beam_AN, ids_ANT

    def _set_aside(self, score_AN: Tensor, ids_ANT: Tensor, over_AN: Tensor) -> None:
        """Keep the K best that ended; of the candidates only the first K may end."""
        over_AK, score_AK = over_AN[:, : self._num_beams], score_AN[:, : self._num_beams]
        both_AM = torch.cat([self._done_score_AK, score_AK.masked_fill(~over_AK, -torch.inf)], dim=1)
        longer_AKT = pad(self._done_ids_AKT, (0, 1), value=self._eos_id)
        ids_AMT = torch.cat([longer_AKT, ids_ANT[:, : self._num_beams]], dim=1)
        sorted_AM, order_AM = both_AM.sort(dim=1, descending=True, stable=True)
        self._done_score_AK = sorted_AM[:, : self._num_beams]
        self._done_ids_AKT = _gather(ids_AMT, order_AM[:, : self._num_beams])

    def _finish(self, goes_on: Sequence[bool]) -> None:
        if all(goes_on):
            return
        for index, on in enumerate(goes_on):
            if not on:
                self.sequences[index].finish(self._done_ids_AKT[index, 0].tolist(), self._eos_id)
        self._keep([index for index, on in enumerate(goes_on) if on])

    def _stream(self) -> None:
        """Publish the ids all candidates of an answer begin with: it is one of them, or grows out of one."""
        for index, sequence in enumerate(self.sequences):
            if sequence.stream:
                done_MT = self._done_ids_AKT[index][self._done_score_AK[index] > -torch.inf]
                candidates_MT = torch.cat([self._ids_AWT[index], done_MT])
                is_common_T = (candidates_MT == candidates_MT[0]).all(dim=0)
                sequence.ids = candidates_MT[0, : int(is_common_T.int().cumprod(0).sum())].tolist()

    def _keep(self, indices: Sequence[int]) -> None:
        chosen = list(indices)
        self.sequences = [self.sequences[index] for index in chosen]
        self._limit_A1, self._score_AW = self._limit_A1[chosen], self._score_AW[chosen]
        self._ids_AWT = self._ids_AWT[chosen]
        self._done_score_AK, self._done_ids_AKT = self._done_score_AK[chosen], self._done_ids_AKT[chosen]


def _gather(ids_AXT: Tensor, index_AY: Tensor) -> Tensor:
    return ids_AXT.gather(1, index_AY[:, :, None].expand(-1, -1, ids_AXT.shape[2]))
