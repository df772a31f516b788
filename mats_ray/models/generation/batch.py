"""Continuous batching: one forward pass per step for answers that joined, and will end, at different times.

New answers join between two passes, finished or dropped ones leave, and none changes another: each row sees
its own ids at its own positions.

Nor does the failure of one reach another. A pass that fails is computed again in halves, down to the answers
that fail by themselves; halves stay apart until their answers are done, as what ran out of memory once would
do so again.

Shapes: N new answers, R rows, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from mats_ray.errors import AnswerError
from mats_ray.models.device import on_device
from mats_ray.models.generation.kv_cache import KVCache, read_prompts
from mats_ray.models.generation.search import Choice, Search, TokenSequence, make_search
from mats_ray.models.splice import Spliced

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class _Member:
    """An answer in a batch: the rows it continues, and their next tokens; None: those the cache holds."""

    search: Search
    index: int
    """Position of the answer in its search."""
    rows: list[int]
    tokens: list[int] | None = None

    @property
    def sequence(self) -> TokenSequence:
        """The answer."""
        return self.search.sequences[self.index]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Answers that share a forward pass; rows stand in the order of searches, then of answers."""

    cache: KVCache
    searches: list[Search]

    @property
    def sequences(self) -> list[TokenSequence]:
        """All answers, finished ones among them until the next step."""
        return [sequence for search in self.searches for sequence in search.sequences]

    def rows(self) -> list[tuple[Search, list[int]]]:
        """Return every search with its rows."""
        sizes = [len(search.sequences) * search.width for search in self.searches]
        ends = list(accumulate(sizes))
        return [
            (search, list(range(end - size, end)))
            for search, size, end in zip(self.searches, sizes, ends, strict=True)
        ]

    def members(self) -> list[_Member]:
        """Return every answer with its rows as they are."""
        return [
            _Member(search, index, rows[index * search.width : (index + 1) * search.width])
            for search, rows in self.rows()
            for index in range(len(search.sequences))
        ]


class ContinuousBatch:
    """Answers that are being generated; usually one part.

    Args:
        llm: A causal language model of transformers whose cache is supported, see ``kv_cache``.
        eos_id: Ends an answer.

    Example::

        batch, answer = ContinuousBatch(llm, eos_id=2), TokenSequence(SearchSettings(max_new_tokens=9))
        batch.add(prompts, [answer])
        while not answer.is_finished:
            batch.step()
    """

    def __init__(self, llm: Any, *, eos_id: int) -> None:
        self._llm, self._eos_id = llm, eos_id
        self._parts: list[_Part] = []

    @property
    def sequences(self) -> list[TokenSequence]:
        """Answers that are not finished."""
        return [one for part in self._parts for one in part.sequences if not one.is_finished]

    @torch.no_grad()
    def add(self, prompts: Spliced, sequences: Sequence[TokenSequence]) -> None:
        """Read N prompts in one pass and choose the first token of each answer.

        Args:
            prompts: Padded left.
            sequences: New answers. What this pass cannot continue is finished, with an error where it failed.

        Raises:
            ModelError: The model keeps its past in a form that rows cannot be cut from. After this or any
                other exception none has joined, and the caller may try fewer.
        """
        cache, logits_NV = read_prompts(self._llm, prompts)
        by_search = sorted(range(len(sequences)), key=lambda row: _search_key(sequences[row]))
        started = []
        for _, group in groupby(by_search, key=lambda row: _search_key(sequences[row])):
            rows = list(group)
            chosen = [sequences[row] for row in rows]
            started.append((make_search(chosen, eos_id=self._eos_id, device=logits_NV.device), rows))
        for part in _advanced(cache, started, logits_NV):
            self._join(part)

    @torch.no_grad()
    def step(self) -> None:
        """Compute one more token of every answer."""
        pending, self._parts = self._parts[::-1], []
        while pending:
            part = pending.pop()  # nothing else holds it: where memory is short, its halves replace it
            if (computed := self._forward(part)) is not None:
                cache, logits_RV = computed
                self._parts += _advanced(cache, part.rows(), logits_RV)
            elif (middle := len(members := part.members()) // 2) > 0:
                pending += _isolated(part.cache, members[middle:]) + _isolated(part.cache, members[:middle])

    def drop(self, sequence: TokenSequence) -> None:
        """Give up an answer; its rows leave with the next step, or with its part."""
        sequence.is_finished = True
        self._parts = [part for part in self._parts if any(not one.is_finished for one in part.sequences)]

    def _forward(self, part: _Part) -> tuple[KVCache, Tensor] | None:
        """Compute one pass; None if it fails, which is the failure of an answer that is alone in it."""
        try:
            return part.cache.step(self._llm)
        except Exception as error:  # noqa: BLE001  whatever it is, it may come from one answer
            if len(part.sequences) == 1:
                part.sequences[0].fail(error)
            return None

    def _join(self, part: _Part) -> None:
        try:
            last = self._parts[-1]
            self._parts[-1] = _Part(last.cache.joined(part.cache), last.searches + part.searches)
        except Exception:  # noqa: BLE001  there is no part yet, or no memory for one large part
            self._parts.append(part)


def _search_key(sequence: TokenSequence) -> tuple[float, ...]:
    settings = sequence.settings
    penalties = settings.penalties
    return settings.num_beams, penalties.repetition_penalty, penalties.no_repeat_ngram_size


class _Turn(NamedTuple):
    """A search whose answers all go on, with the rows of the batch that they are in, and their logits."""

    search: Search
    rows: Sequence[int]
    logits_RV: Tensor

    def some(self, indices: Sequence[int]) -> "_Turn":
        """Return the turn of some of the answers."""
        width = self.search.width
        kept = [index * width + beam for index in indices for beam in range(width)]
        logits_RV = _rows(self.logits_RV, kept)
        return _Turn(self.search.selected(indices), [self.rows[row] for row in kept], logits_RV)

    def fail(self, error: Exception) -> None:
        """End all its answers."""
        for sequence in self.search.sequences:
            sequence.fail(error)


def _advanced(cache: KVCache, searches: Sequence[tuple[Search, list[int]]], logits_RV: Tensor) -> list[_Part]:
    """Let every search choose tokens, then keep the rows that go on."""
    turns: list[_Turn] = []
    for search, rows in searches:
        is_open = [index for index, one in enumerate(search.sequences) if not one.is_finished]
        if is_open:
            is_all = rows == list(range(len(logits_RV)))
            turn = _Turn(search, rows, logits_RV if is_all else _rows(logits_RV, rows))
            turns.append(turn if len(is_open) == len(search.sequences) else turn.some(is_open))
    return _isolated(cache, list(_advance(turns)), reuse=True)


def _rows(logits_RV: Tensor, chosen: list[int]) -> Tensor:
    return logits_RV.index_select(0, on_device(chosen, logits_RV.device))


def _advance(turns: Sequence[_Turn]) -> Iterator[_Member]:
    """Advance searches; where logits are not finite, in halves, so that only their answers fail."""
    for turn, result in zip(turns, _results(turns), strict=True):
        search, num_answers = turn.search, len(turn.search.sequences)
        if isinstance(result, AnswerError) and num_answers > 1:
            middle = num_answers // 2
            yield from _advance([turn.some(range(middle)), turn.some(range(middle, num_answers))])
        elif isinstance(result, Exception):
            turn.fail(result)
        else:
            parents, tokens = result
            for index in range(len(search.sequences)):
                its = slice(index * search.width, (index + 1) * search.width)
                rows = [turn.rows[parent] for parent in parents[its]]
                yield _Member(search, index, rows, tokens[its])


def _results(turns: Sequence[_Turn]) -> list[tuple[list[int], list[int]] | Exception]:
    """Let searches choose, read all their reports at once, and conclude; each fails by itself."""
    choices = [_guarded(turn.search.choose, turn.logits_RV) for turn in turns]
    reports = _guarded(_read, [one.report for one in choices if isinstance(one, Choice)])
    if isinstance(reports, Exception):
        return [reports] * len(turns)
    results, unread = [], iter(reports)
    for turn, choice in zip(turns, choices, strict=True):
        if isinstance(choice, Choice):
            choice = _guarded(turn.search.conclude, choice, next(unread))  # noqa: PLW2901
        results.append(choice)
    return results


def _read(reports: Sequence[Tensor]) -> Sequence[Tensor]:
    """Copy tensors to the host in one go: the only moment of a step in which it waits for the device."""
    return torch.cat(list(reports)).cpu().split([len(one) for one in reports]) if reports else ()


def _guarded(function: Callable[..., T], *arguments: Any) -> T | Exception:
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001  whatever it is, other searches may go on
        return error


def _isolated(cache: KVCache, members: Sequence[_Member], *, reuse: bool = False) -> list[_Part]:
    """Take answers out together; if that fails, in halves, down to those that fail by themselves.

    Args:
        cache: Which holds their rows.
        members: The answers.
        reuse: The cache is not needed any more.
    """
    if not members:
        return []
    try:
        return [_part(cache, members, reuse=reuse)]
    except Exception as error:  # noqa: BLE001  whatever it is, it may come from one answer
        if len(members) == 1:
            members[0].sequence.fail(error)
            return []
    middle = len(members) // 2
    return _isolated(cache, members[:middle]) + _isolated(cache, members[middle:])


def _part(cache: KVCache, members: Sequence[_Member], *, reuse: bool) -> _Part:
    kept = [row for member in members for row in member.rows]
    tokens = [token for member in members for token in member.tokens or ()] or None
    searches = []
    for search in dict.fromkeys(member.search for member in members):
        indices = [member.index for member in members if member.search is search]
        searches.append(search if len(indices) == len(search.sequences) else search.selected(indices))
    return _Part(cache.selected(kept, tokens, reuse=reuse), searches)
