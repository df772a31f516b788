"""Choosing tokens from logits: greedily, by sampling, or by beam search.

A search holds the answers that joined a batch together with the same settings, and computes them together. It
equals transformers' ``generate`` token for token, and no answer depends on those beside it.

A step has two halves. ``choose`` computes everything on the model's device and knows no value of it, so that
it can be queued, and captured, whole; ``conclude`` acts on its report, which the host reads once, for all
searches together.

Shapes: A answers, W rows per answer, R = A W rows, K beams, N = 2 K candidates, T ids so far, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import LogitsProcessor, NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from mats_ray.errors import AnswerError, free_frames
from mats_ray.models.device import on_device

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
        if not bool(is_choosable(scores).all()):
            raise _not_finite()
        return self.applied(input_ids, scores)

    def applied(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores with penalties; those that are not finite are not noticed."""
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
        self.error, self.is_finished = free_frames(error), True


class Choice(NamedTuple):
    """What a search has chosen, on the model's device."""

    report: Tensor
    """Numbers (n,) int64 that ``Search.conclude`` needs on the host."""
    beams: "_Beams | None" = None
    """The state of a beam search behind this step."""


class Search(Protocol):
    """Answers with rows in one batch."""

    sequences: list[TokenSequence]
    """Answers that go on, in the order of their rows."""
    width: int
    """W, number of rows per answer."""

    def choose(self, logits_RV: Tensor) -> Choice:
        """Choose tokens; nothing is read from the device, and nothing changes.

        Args:
            logits_RV: Logits behind each row; behind prompts, which have one row each, (A, V).
        """
        ...

    def conclude(self, choice: Choice, report: Tensor) -> tuple[list[int], list[int]]:
        """Take a choice: finish answers that are complete and let them leave.

        Args:
            choice: The choice.
            report: Its report, on the host.

        Returns:
            For each row that goes on: the row it continues, and its next token.

        Raises:
            AnswerError: Some logits are NaN or infinite, or no token may follow. Then nothing has changed.
        """
        ...

    def selected(self, indices: Sequence[int]) -> "Search":
        """Return a search with some of the answers."""
        ...


def advance(search: Search, logits_RV: Tensor) -> tuple[list[int], list[int]]:
    """Choose and conclude; see ``Search``."""
    choice = search.choose(logits_RV)
    return search.conclude(choice, choice.report.cpu())


def make_search(
    sequences: Sequence[TokenSequence], *, eos_id: int, device: torch.device | str = "cpu"
) -> Search:
    """Start a search for answers whose number of beams and penalties are equal."""
    kind = BeamSearch if sequences[0].settings.num_beams > 1 else SamplingSearch
    return kind(sequences, eos_id=eos_id, device=device)


def is_choosable(scores: Tensor) -> Tensor:
    """Whether a token can be chosen by scores (..., V): no NaN, no plus infinity, not all minus infinity."""
    return scores.amax(-1).isfinite()  # the maximum of a row with NaN is NaN


def _not_finite() -> AnswerError:
    return AnswerError(
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
        self._eos_id, self._device = eos_id, torch.device(device)
        self._generators = [torch.Generator().manual_seed(one.settings.seed) for one in sequences]
        self._ids_AT = torch.zeros(len(sequences), 0, dtype=torch.long, device=device)
        self._find_sampled()

    def choose(self, logits_RV: Tensor) -> Choice:
        """Find the likeliest tokens; see ``Search.choose``.

        They are followed by whether the scores of each answer are finite, and by the bits of the scores that
        are sampled from.
        """
        logits_AV = logits_RV.float()
        scores_AV = self.sequences[0].settings.penalties.applied(self._ids_AT, logits_AV)
        is_finite_A = is_choosable(logits_AV) & is_choosable(scores_AV)  # every token may be forbidden
        found = [scores_AV.argmax(-1), is_finite_A.long()]
        if self._sampled_S is not None:
            found.append(scores_AV.index_select(0, self._sampled_S).flatten().view(torch.int32).long())
        return Choice(torch.cat(found))

    def conclude(self, choice: Choice, report: Tensor) -> tuple[list[int], list[int]]:  # noqa: ARG002  beams'
        """Take the next token of every answer, see ``Search.conclude``."""
        num_answers = len(self.sequences)
        likeliest_A, is_finite_A, bits = report.tensor_split([num_answers, 2 * num_answers])
        if not bool(is_finite_A.all()):
            raise _not_finite()
        tokens: list[int] = likeliest_A.tolist()
        scores_SV = bits.int().view(torch.float32).view(len(self._sampled) or 1, -1)
        for place, index in enumerate(self._sampled):
            sequence, generator = self.sequences[index], self._generators[index]
            tokens[index] = _sample(scores_SV[place], sequence.settings, generator)
        self._ids_AT = torch.cat([self._ids_AT, on_device(tokens, self._device)[:, None]], dim=1)
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
        self._ids_AT = self._ids_AT.index_select(0, on_device(list(indices), self._device))
        self._find_sampled()

    def _find_sampled(self) -> None:
        self._sampled = [
            index
            for index, sequence in enumerate(self.sequences)
            if sequence.settings.temperature >= _GREEDY_BELOW
        ]
        self._sampled_S = on_device(self._sampled, self._device) if self._sampled else None


def _sample(scores_V: Tensor, settings: SearchSettings, generator: torch.Generator) -> int:
    """Walk down from the likeliest token until a random share of the probability is behind."""
    scores_V = scores_V.double()
    below_best_V = scores_V - scores_V.max()  # at most 0: no temperature makes infinity of it
    probabilities_V, order_V = (below_best_V / settings.temperature).softmax(0).sort(descending=True)
    reached_V = probabilities_V.cumsum(0)
    kept = int((reached_V - probabilities_V < settings.top_p).sum())
    share = torch.rand((), generator=generator, dtype=torch.double) * reached_V[kept - 1]
    return int(order_V[min(int((reached_V < share).sum()), kept - 1)])


class _Beams(NamedTuple):
    """The state of a beam search, on the model's device."""

    score_AW: Tensor
    ids_AWT: Tensor
    done_score_AK: Tensor
    """Scores of beams that ended, the best first; minus infinity where there is none."""
    done_ids_AKT: Tensor


class BeamSearch:
    """K rows per answer behind its prompt's one; transformers' beam search."""

    def __init__(
        self, sequences: Sequence[TokenSequence], *, eos_id: int, device: torch.device | str = "cpu"
    ) -> None:
        num_answers, num_beams = len(sequences), sequences[0].settings.num_beams
        self.sequences, self.width = list(sequences), 1
        self._num_beams, self._eos_id, self._device = num_beams, eos_id, torch.device(device)
        limits = [one.settings.max_new_tokens for one in sequences]
        self._limit_A1 = on_device(limits, device)[:, None]
        self._beams = _Beams(
            torch.zeros(num_answers, 1, device=device),
            torch.zeros(num_answers, 1, 0, dtype=torch.long, device=device),
            torch.full((num_answers, num_beams), -torch.inf, device=device),
            torch.zeros(num_answers, num_beams, 0, dtype=torch.long, device=device),
        )

    def choose(self, logits_RV: Tensor) -> Choice:
        """Extend every beam, keep the best, set aside those that ended; see ``Search.choose``.

        The report has a row per answer: whether its scores are finite, whether it goes on, the rows that its
        beams continue (K), their tokens (K), the ids of its best beam that ended (T); where an answer is
        streamed, the number of settled ids and the first beam's (T).
        """
        score_AN, parent_AN, ids_ANT, is_finite_A = self._candidates(logits_RV)
        length = ids_ANT.shape[2]
        over_AN = (ids_ANT[:, :, -1] == self._eos_id) | (length >= self._limit_A1)
        done_score_AK, done_ids_AKT = self._set_aside(score_AN / length, ids_ANT, over_AN)
        going_AK = over_AN.int().argsort(dim=1, stable=True)[:, : self._num_beams]
        score_AK, ids_AKT = score_AN.gather(1, going_AK), _gather(ids_ANT, going_AK)
        can_improve_A = score_AK[:, 0] / length > done_score_AK[:, -1]
        goes_on_A = can_improve_A & ~over_AN.all(dim=1)
        beams = _Beams(score_AK, ids_AKT, done_score_AK, done_ids_AKT)
        found = [is_finite_A[:, None], goes_on_A[:, None], parent_AN.gather(1, going_AK), ids_AKT[:, :, -1]]
        found += [done_ids_AKT[:, 0], *self._settled(beams)]
        return Choice(torch.cat([part.long() for part in found], dim=1).flatten(), beams)

    def conclude(self, choice: Choice, report: Tensor) -> tuple[list[int], list[int]]:
        """Take the next tokens of every answer, see ``Search.conclude``."""
        beams = choice.beams
        assert beams is not None
        num_beams, length = self._num_beams, beams.ids_AWT.shape[2]
        sizes = torch.tensor([1, 1, num_beams, num_beams, length]).cumsum(0).tolist()
        rows = report.view(len(self.sequences), -1).tensor_split(sizes, dim=1)
        is_finite_A, goes_on_A, parent_AK, token_AK, best_AT, settled = rows
        if not bool(is_finite_A.all()):
            raise _not_finite()
        self._beams, self.width = beams, num_beams
        goes_on = goes_on_A[:, 0].bool()
        self._publish(goes_on.tolist(), best_AT, settled)
        return parent_AK[goes_on].flatten().tolist(), token_AK[goes_on].flatten().tolist()

    def selected(self, indices: Sequence[int]) -> "BeamSearch":
        """Return a search with some of the answers."""
        chosen = BeamSearch(self.sequences[:1], eos_id=self._eos_id)
        chosen.__dict__.update(self.__dict__)
        chosen._keep(indices)
        return chosen

    def _candidates(self, logits_RV: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Find the best 2 K continuations: scores, rows they continue, ids, and whether all is finite.

        One EOS per beam leaves K.
        """
        score_AW, ids_AWT = self._beams.score_AW, self._beams.ids_AWT
        (num_answers, width), vocabulary = score_AW.shape, logits_RV.shape[1]
        likely_RV = logits_RV.float().log_softmax(-1)
        log_RV = self.sequences[0].settings.penalties.applied(ids_AWT.flatten(0, 1), likely_RV)
        total_AWV = score_AW[:, :, None] + log_RV.view(num_answers, width, -1)
        if width * vocabulary < 2 * self._num_beams:  # a prompt with few continuations
            total_AWV = torch.cat(
                [total_AWV, (log_RV + _UNUSED)[:, None].expand(-1, self._num_beams - 1, -1)], dim=1
            )
        score_AN, at_AN = total_AWV.flatten(1).topk(2 * self._num_beams)
        is_finite_A = is_choosable(likely_RV).view(num_answers, width).all(dim=1) & is_choosable(score_AN)
        beam_AN, token_AN = (at_AN // vocabulary).clamp(max=width - 1), at_AN % vocabulary
        first_A1 = width * torch.arange(num_answers, device=at_AN.device)[:, None]
        ids_ANT = torch.cat([_gather(ids_AWT, beam_AN), token_AN[:, :, None]], dim=2)
        return score_AN, first_A1 + beam_AN, ids_ANT, is_finite_A

    def _set_aside(self, score_AN: Tensor, ids_ANT: Tensor, over_AN: Tensor) -> tuple[Tensor, Tensor]:
        """Return the K best that ended, scores and ids; of the candidates only the first K may end."""
        over_AK, score_AK = over_AN[:, : self._num_beams], score_AN[:, : self._num_beams]
        new_AK = score_AK.masked_fill(~over_AK, -torch.inf)
        both_AM = torch.cat([self._beams.done_score_AK, new_AK], dim=1)
        longer_AKT = pad(self._beams.done_ids_AKT, (0, 1), value=self._eos_id)
        ids_AMT = torch.cat([longer_AKT, ids_ANT[:, : self._num_beams]], dim=1)
        sorted_AM, order_AM = both_AM.sort(dim=1, descending=True, stable=True)
        return sorted_AM[:, : self._num_beams], _gather(ids_AMT, order_AM[:, : self._num_beams])

    def _settled(self, beams: _Beams) -> list[Tensor]:
        """Find the ids all candidates of an answer begin with: it is one of them, or grows out of one."""
        if not any(sequence.stream for sequence in self.sequences):
            return []
        candidates_AMT = torch.cat([beams.ids_AWT, beams.done_ids_AKT], dim=1)
        is_none_AM = torch.cat([torch.zeros_like(beams.score_AW), beams.done_score_AK], dim=1) == -torch.inf
        is_equal_AMT = (candidates_AMT == candidates_AMT[:, :1]) | is_none_AM[:, :, None]
        return [is_equal_AMT.all(dim=1).int().cumprod(1).sum(1, keepdim=True), candidates_AMT[:, 0]]

    def _publish(self, goes_on: Sequence[bool], best_AT: Tensor, settled: Tensor) -> None:
        """Complete the answers that do not go on, and publish the settled ids of the others."""
        for index, sequence in enumerate(self.sequences):
            if not goes_on[index]:
                sequence.finish(best_AT[index].tolist(), self._eos_id)
            elif sequence.stream:
                num_settled, *ids = settled[index].tolist()
                sequence.ids = ids[:num_settled]
        if not all(goes_on):
            self._keep([index for index, on in enumerate(goes_on) if on])

    def _keep(self, indices: Sequence[int]) -> None:
        self.sequences = [self.sequences[index] for index in indices]
        chosen_A = on_device(list(indices), self._device)
        self._limit_A1 = self._limit_A1.index_select(0, chosen_A)
        self._beams = _Beams(*(part.index_select(0, chosen_A) for part in self._beams))


def _gather(ids_AXT: Tensor, index_AY: Tensor) -> Tensor:
    return ids_AXT.gather(1, index_AY[:, :, None].expand(-1, -1, ids_AXT.shape[2]))
