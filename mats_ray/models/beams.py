"""Beam search for a batch of answers at once: each prompt is read once, and an answer leaves when it is done.

transformers' ``generate`` finds the same answers, but reads every prompt once per beam and goes on with
finished answers until the last one is. ``search.BeamSearch`` is the same search for one answer, which may
join and leave others; here they begin together, and a step of all costs no more than one of theirs.

Shapes: B answers under way, K beams, W beams so far (1 behind the prompt, then K), R = B W rows, N = 2 K
candidates, T ids so far, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

from mats_ray.models.cache import read
from mats_ray.models.search import Penalties, check_scores
from mats_ray.models.splice import Spliced


class Beams:
    """The answers of a batch on their way, transformers' default settings (length penalty 1, no early stop).

    Args:
        num_answers: B at first.
        num_beams: K; the vocabulary holds at least twice as many tokens.
        eos_id: Ends an answer.
        max_new_tokens: Cuts it.
        penalties: Applied to log-probabilities.
    """

    def __init__(
        self,
        num_answers: int,
        *,
        num_beams: int,
        eos_id: int,
        max_new_tokens: int,
        penalties: Penalties,
        device: torch.device | str = "cpu",
    ) -> None:
        self.answers: list[list[int]] = [[] for _ in range(num_answers)]
        """Ids of those that are done, EOS included where the model wrote it."""
        self._num_beams, self._eos_id, self._penalties = num_beams, eos_id, penalties
        self._max_new_tokens = max_new_tokens
        self._which = list(range(num_answers))
        self._score_BW = torch.zeros(num_answers, 1, device=device)
        self._ids_BWT = torch.zeros(num_answers, 1, 0, dtype=torch.long, device=device)
        self._done_score_BK = torch.full((num_answers, num_beams), -torch.inf, device=device)
        self._done_ids_BKT = torch.zeros(num_answers, num_beams, 0, dtype=torch.long, device=device)

    def advance(self, logits_RV: Tensor) -> tuple[list[int], list[int]]:
        """Extend every beam, keep the best, set aside those that ended, let finished answers go.

        Returns:
            Of each row that goes on: from which row, with which token. None: all answers are done.

        Raises:
            AnswerError: Logits are NaN or infinite, or no token may follow.
        """
        score_BN, parent_BN, ids_BNT = self._candidates(logits_RV)
        length = ids_BNT.shape[2]
        over_BN = ids_BNT[:, :, -1] == self._eos_id
        if length >= self._max_new_tokens:
            over_BN = torch.ones_like(over_BN)
        self._set_aside(score_BN / length, ids_BNT, over_BN)
        going_BK = over_BN.int().argsort(dim=1, stable=True)[:, : self._num_beams]
        self._score_BW = score_BN.gather(1, going_BK)
        self._ids_BWT = _taken(ids_BNT, going_BK)
        can_improve_B = self._score_BW[:, 0] / length > self._done_score_BK[:, -1]
        goes_on_B = can_improve_B & ~over_BN.all(dim=1)
        parent_BK = parent_BN.gather(1, going_BK)
        self._leave(goes_on_B)
        return parent_BK[goes_on_B].flatten().tolist(), self._ids_BWT[:, :, -1].flatten().tolist()

    def _candidates(self, logits_RV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the best 2 K continuations: scores, rows they go on from, ids. One EOS per beam leaves K."""
        num_answers, width = self._score_BW.shape
        log_RV = self._penalties.apply(self._ids_BWT.flatten(0, 1), logits_RV.float().log_softmax(-1))
        total_BWV = self._score_BW[:, :, None] + log_RV.view(num_answers, width, -1)
        score_BN, at_BN = total_BWV.flatten(1).topk(2 * self._num_beams)
        check_scores(score_BN)
        beam_BN, token_BN = at_BN // total_BWV.shape[2], at_BN % total_BWV.shape[2]
        first_B1 = width * torch.arange(num_answers, device=at_BN.device)[:, None]
        ids_BNT = torch.cat([_taken(self._ids_BWT, beam_BN), token_BN[:, :, None]], dim=2)
        return score_BN, first_B1 + beam_BN, ids_BNT

    def _set_aside(self, score_BN: Tensor, ids_BNT: Tensor, over_BN: Tensor) -> None:
        """Keep the K best that ended; of the candidates only the first K may end."""
        over_BK, score_BK = over_BN[:, : self._num_beams], score_BN[:, : self._num_beams]
        both_BM = torch.cat([self._done_score_BK, score_BK.masked_fill(~over_BK, -torch.inf)], dim=1)
        longer_BKT = torch.nn.functional.pad(self._done_ids_BKT, (0, 1), value=self._eos_id)
        ids_BMT = torch.cat([longer_BKT, ids_BNT[:, : self._num_beams]], dim=1)
        sorted_BM, order_BM = both_BM.sort(dim=1, descending=True, stable=True)
        self._done_score_BK = sorted_BM[:, : self._num_beams]
        self._done_ids_BKT = _taken(ids_BMT, order_BM[:, : self._num_beams])

    def _leave(self, goes_on_B: Tensor) -> None:
        best_BT = self._done_ids_BKT[:, 0].tolist()
        goes_on = goes_on_B.tolist()
        for index, ids, on in zip(self._which, best_BT, goes_on, strict=True):
            if not on:
                self.answers[index] = ids
        self._which = [index for index, on in zip(self._which, goes_on, strict=True) if on]
        self._score_BW, self._ids_BWT = self._score_BW[goes_on_B], self._ids_BWT[goes_on_B]
        self._done_score_BK = self._done_score_BK[goes_on_B]
        self._done_ids_BKT = self._done_ids_BKT[goes_on_B]


def beam_search(
    llm: Any,
    prompts: Spliced,
    *,
    num_beams: int,
    eos_id: int,
    max_new_tokens: int,
    penalties: Penalties,
) -> list[list[int]]:
    """Answer prompts that are padded left; ids per prompt, EOS last where the model ended the answer itself.

    Raises:
        AnswerError: As for ``Beams.advance``; of no prompt there is an answer then.
        ModelError: The model keeps its past in a form that rows cannot be cut from.
    """
    rows, logits_RV = read(
        llm, embeds_BSL=prompts.embeds_BSL, mask_BS=prompts.mask_BS, positions_BS=prompts.positions_BS
    )
    beams = Beams(
        len(logits_RV),
        num_beams=num_beams,
        eos_id=eos_id,
        max_new_tokens=max_new_tokens,
        penalties=penalties,
        device=logits_RV.device,
    )
    while True:
        parents, tokens = beams.advance(logits_RV)
        if not tokens:
            return beams.answers
        rows, logits_RV = rows.selected(parents, tokens).step(llm)


def _taken(ids_BXT: Tensor, index_BY: Tensor) -> Tensor:
    return ids_BXT.gather(1, index_BY[:, :, None].expand(-1, -1, ids_BXT.shape[2]))
