"""Continuous batching: one forward pass at a time for answers that began, and will end, at different times.

Every answer in the batch is a ``Search`` with rows of its own. New ones join between two passes, finished or
abandoned ones leave, and none changes another: each row sees its own ids at its own positions.

Nor does the failure of one reach another. A pass that fails is computed again in halves, down to the answers
that fail by themselves; what was halved stays apart until its answers are done, for what ran out of memory
once would do so again.

Shapes: N new answers, R rows, S columns of the key-value cache (padded left), V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mats_ray.models.cache import Rows, read
from mats_ray.models.mats import MATS
from mats_ray.models.search import Search
from mats_ray.models.splice import pad_left


@dataclass(frozen=True, slots=True, eq=False)
class _Member:
    """The rows of one answer in a batch, and the tokens they go on with; None: those the batch holds."""

    search: Search
    rows: list[int]
    tokens: list[int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Answers that share a forward pass; the rows of a member stand together, in the order of members."""

    rows: Rows
    members: list[_Member]

    def part(self, members: Sequence[_Member]) -> "_Batch":
        """Take some of the members out, with the rows and tokens they go on from."""
        kept = [row for member in members for row in member.rows]
        tokens = [token for member in members for token in member.tokens or ()] or None
        renumbered, first = [], 0
        for member in members:
            renumbered.append(_Member(member.search, list(range(first, first + len(member.rows)))))
            first += len(member.rows)
        return _Batch(self.rows.selected(kept, tokens), renumbered)

    def joined(self, other: "_Batch") -> "_Batch":
        """Put another batch below."""
        below = [_Member(one.search, [len(self.rows) + row for row in one.rows]) for one in other.members]
        return _Batch(self.rows.joined(other.rows), self.members + below)


class StepDecoder:
    """Answers under way, of one model; usually one batch.

    Example::

        decoder = StepDecoder(model)
        decoder.add(clap_1C, [after_ids], [LineSearch(eos_id=2, max_new_tokens=9, penalties=Penalties())])
        while decoder.active:
            failed = decoder.step()
    """

    def __init__(self, model: MATS) -> None:
        self._model = model
        self._batches: list[_Batch] = []
        self._dropped: set[Search] = set()

    @property
    def active(self) -> list[Search]:
        """Answers under way."""
        return [
            one.search for batch in self._batches for one in batch.members if one.search not in self._dropped
        ]

    @torch.inference_mode()
    def add(
        self, clap_NC: Tensor, after_ids: Sequence[Sequence[int]], searches: Sequence[Search]
    ) -> dict[Search, Exception]:
        """Read N prompts in one pass and let their answers join, except those that ended with it.

        Args:
            clap_NC: Embeddings, text or Santa-moved audio.
            after_ids: Ids of each prompt's second half.
            searches: How to look for each answer; new ones.

        Returns:
            Answers that cannot go on, and why; they have left. What the pass itself raises is raised: then
            none has joined, and the caller may try fewer.

        Raises:
            ModelError: The model keeps its past in a form that rows cannot be cut from.
        """
        failed: dict[Search, Exception] = {}
        spliced = pad_left(self._model.prompt(clap_NC, after_ids))
        rows, logits_NV = read(
            self._model.llm,
            embeds_BSL=spliced.embeds_BSL,
            mask_BS=spliced.mask_BS,
            positions_BS=spliced.positions_BS,
        )
        new = _Batch(rows, [_Member(search, [row]) for row, search in enumerate(searches)])
        for batch in self._advanced(new, logits_NV, failed):
            self._join(batch)
        return failed

    @torch.inference_mode()
    def step(self) -> dict[Search, Exception]:
        """Compute one more token of every answer; returns those that cannot go on, and why."""
        failed: dict[Search, Exception] = {}
        waiting, self._batches = self._batches[::-1], []
        while waiting:
            batch = waiting.pop()  # nothing else holds it: where memory is short, its parts replace it
            computed = self._forward(batch, failed)
            if computed is not None:
                self._batches += self._advanced(*computed, failed)
            elif (middle := len(batch.members) // 2) > 0:
                waiting += _isolated(batch.part, batch.members[middle:], failed)
                waiting += _isolated(batch.part, batch.members[:middle], failed)
        self._dropped.clear()
        return failed

    def drop(self, search: Search) -> None:
        """Forget an answer nobody waits for any more; its rows go with the next step, or with its batch."""
        self._dropped.add(search)
        self._batches = [
            batch for batch in self._batches if any(one.search not in self._dropped for one in batch.members)
        ]

    def _forward(self, batch: _Batch, failed: dict[Search, Exception]) -> tuple[_Batch, Tensor] | None:
        """Compute one pass; None if it fails, which is a single member's own failure."""
        try:
            rows, logits_RV = batch.rows.step(self._model.llm)
        except Exception as error:  # noqa: BLE001  whatever it is, it may belong to one member
            if len(batch.members) == 1:
                failed[batch.members[0].search] = error
            return None
        return _Batch(rows, batch.members), logits_RV

    def _advanced(self, batch: _Batch, logits_RV: Tensor, failed: dict[Search, Exception]) -> list[_Batch]:
        """Let every search take its logits, then keep the rows they go on from."""
        going: list[_Member] = []
        for member in batch.members:
            if member.search in self._dropped:
                continue
            try:
                step = member.search.advance(logits_RV[member.rows[0] : member.rows[-1] + 1])
            except Exception as error:  # noqa: BLE001  it belongs to this answer, not to those beside it
                failed[member.search] = error
                continue
            if step is not None:
                rows = [member.rows[parent] for parent in step.parents]
                going.append(_Member(member.search, rows, step.tokens))
        return _isolated(batch.part, going, failed)

    def _join(self, batch: _Batch) -> None:
        try:
            self._batches[-1:] = [self._batches[-1].joined(batch)] if self._batches else [batch]
        except Exception:  # noqa: BLE001  no memory for one large batch: there is for two
            self._batches.append(batch)


def _isolated(
    take: Callable[[Sequence[_Member]], _Batch], members: Sequence[_Member], failed: dict[Search, Exception]
) -> list[_Batch]:
    """Take members out together; if that fails, in halves, down to those that fail by themselves."""
    if not members:
        return []
    try:
        return [take(members)]
    except Exception as error:  # noqa: BLE001  whatever it is, it may belong to one member
        if len(members) == 1:
            failed[members[0].search] = error
            return []
    middle = len(members) // 2
    return _isolated(take, members[:middle], failed) + _isolated(take, members[middle:], failed)
