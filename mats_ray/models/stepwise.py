"""Continuous batching: one forward pass at a time for answers that began, and will end, at different times.

Every answer in the batch is a ``Search`` with rows of its own. New ones join between two passes, finished or
abandoned ones leave at once, and none changes another: each row sees its own ids at its own positions.

Shapes: N new answers, R rows, S columns of the key-value cache (padded left), V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mats_ray.models.cache import Rows, read
from mats_ray.models.mats import MATS
from mats_ray.models.search import Search, Step
from mats_ray.models.splice import pad_left


class StepDecoder:
    """Answers under way, one batch of one model.

    Example::

        decoder = StepDecoder(model)
        decoder.add(clap_1C, [after_ids], [LineSearch(eos_id=2, max_new_tokens=9, penalties=Penalties())])
        while decoder.active:
            finished = decoder.step()
    """

    def __init__(self, model: MATS) -> None:
        self._model = model
        self._rows = Rows()
        self._owners: list[tuple[Search, int]] = []

    @property
    def active(self) -> list[Search]:
        """Answers under way, in the order they joined."""
        return [search for search, _ in self._owners]

    @torch.inference_mode()
    def add(
        self, clap_NC: Tensor, after_ids: Sequence[Sequence[int]], searches: Sequence[Search]
    ) -> list[Search]:
        """Read N prompts in one pass and let their answers join; returns those that ended with it.

        Args:
            clap_NC: Embeddings, text or Santa-moved audio.
            after_ids: Ids of each prompt's second half.
            searches: How to look for each answer; new ones.

        Raises:
            ModelError: The model keeps its past in a form that rows cannot be cut from.
        """
        spliced = pad_left(self._model.prompt(clap_NC, after_ids))
        new, logits_NV = read(
            self._model.llm,
            embeds_BSL=spliced.embeds_BSL,
            mask_BS=spliced.mask_BS,
            positions_BS=spliced.positions_BS,
        )
        owners, finished = self._advance([(search, 1) for search in searches], logits_NV, new)
        self._rows = self._rows.joined(new)
        self._owners += owners
        return finished

    @torch.inference_mode()
    def step(self) -> list[Search]:
        """Compute one more token of every answer; returns those that ended with it."""
        self._rows, logits_RV = self._rows.step(self._model.llm)
        self._owners, finished = self._advance(self._owners, logits_RV, self._rows)
        return finished

    def drop(self, search: Search) -> None:
        """Forget an answer nobody waits for any more."""
        kept, first, owners = [], 0, []
        for owner, width in self._owners:
            if owner is not search:
                kept += range(first, first + width)
                owners.append((owner, width))
            first += width
        if len(owners) < len(self._owners):
            self._rows.select(kept, self._rows.tokens_R1[kept, 0].tolist())
            self._owners = owners

    def _advance(
        self, owners: Sequence[tuple[Search, int]], logits_RV: Tensor, rows: Rows
    ) -> tuple[list[tuple[Search, int]], list[Search]]:
        """Let every search take its logits, then keep the rows they go on from."""
        kept, tokens, going, finished, first = [], [], [], [], 0
        for search, width in owners:
            step: Step | None = search.advance(logits_RV[first : first + width])
            if step is None:
                finished.append(search)
            else:
                kept += [first + parent for parent in step.parents]
                tokens += step.tokens
                going.append((search, len(step.tokens)))
            first += width
        rows.select(kept, tokens)
        return going, finished
