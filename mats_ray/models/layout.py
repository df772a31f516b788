"""Where a micro-batch needs what: the places of its tokens and of its answers, found before it is moved.

How many answer tokens there are depends on the batch's content. Found on the host, where batches are made,
it is known to whatever launches the work of a device; found on the device, it would have to be read back, and
the device would have nothing to do meanwhile.

Shapes: B rows, P prefix vectors, T tokens after them, F tokens before them, A answer tokens, U columns with
an answer in them.
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from mats_ray.models.device import to_device
from mats_ray.models.packing import Packing
from mats_ray.models.splice import IGNORED


@dataclass(frozen=True, slots=True)
class TrainLayout:
    """Places in one micro-batch."""

    logits_at: Tensor
    """Positions whose logits are computed: (A,) of the packed sequence, or (U,) columns of padded rows."""
    labels_A: Tensor
    """Ids to predict."""
    answers_A: Tensor | None
    """Those of the (B * U) logits of padded rows that predict an answer."""
    packing: Packing | None
    """None: rows are padded."""

    @classmethod
    def packed(cls, mask_BT: Tensor, labels_BT: Tensor, *, prefix_length: int, num_before: int) -> Self:
        """Lay rows out as one sequence behind a shared start of ``num_before`` tokens."""
        packing = Packing.of(pad(mask_BT, (prefix_length, 0), value=1), num_shared=num_before)
        is_answer_BT = labels_BT != IGNORED
        # a token is predicted at the one to its left
        predicting_BT = packing.sources_BS[:, -labels_BT.shape[1] - 1 : -1]
        return cls(predicting_BT[is_answer_BT], labels_BT[is_answer_BT], None, packing)

    @classmethod
    def padded(cls, labels_BT: Tensor, *, prefix_length: int, num_before: int) -> Self:
        """Lay rows out side by side; logits are needed at columns where some row has a label."""
        columns_U = (labels_BT != IGNORED).any(dim=0).nonzero()[:, 0]
        labels_BU = labels_BT[:, columns_U]
        is_answer_BU = labels_BU != IGNORED
        # position i predicts token i + 1, so the answer's logits lie one to the left of its labels
        before_answer = num_before + prefix_length - 1
        answers_A = is_answer_BU.flatten().nonzero()[:, 0]
        return cls(before_answer + columns_U, labels_BU[is_answer_BU], answers_A, None)

    def to(self, device: torch.device | str) -> "TrainLayout":
        """Return a copy on another device."""
        packing = self.packing
        if packing is not None:
            packing = Packing(*(to_device(getattr(packing, one.name), device) for one in fields(packing)))
        answers_A = None if self.answers_A is None else to_device(self.answers_A, device)
        logits_at, labels_A = to_device(self.logits_at, device), to_device(self.labels_A, device)
        return TrainLayout(logits_at, labels_A, answers_A, packing)
