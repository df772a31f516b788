"""A layout names the same places packed and padded, and is found without the device."""

import pytest
import torch

from mats_ray.models.layout import TrainLayout
from mats_ray.models.splice import IGNORED
from tests.simulated_device import NAME, SimulatedDevice

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
LABELS = torch.tensor([[IGNORED, IGNORED, 7, 8], [IGNORED, 9, IGNORED, IGNORED]])
SIZES = {"prefix_length": 3, "num_before": 2}


def test_a_packed_layout_names_the_token_before_each_answer_token():
    """Two shared tokens, then 3 + 4 of the first row and 3 + 2 of the second."""
    layout = TrainLayout.packed(MASK, LABELS, **SIZES)

    assert layout.labels_A.tolist() == [7, 8, 9]
    assert layout.logits_at.tolist() == [6, 7, 12]
    assert layout.packing is not None
    assert len(layout.packing.positions_N) == 2 + 7 + 5


def test_a_padded_layout_names_columns_and_the_answers_in_them():
    layout = TrainLayout.padded(LABELS, **SIZES)

    assert layout.logits_at.tolist() == [5, 6, 7]
    assert layout.labels_A.tolist() == [7, 8, 9]
    assert layout.answers_A.tolist() == [1, 2, 3]  # of two rows of three columns
    assert layout.packing is None


def test_a_batch_without_answers_has_a_layout_without_places():
    nothing = torch.full_like(LABELS, IGNORED)

    for layout in (TrainLayout.packed(MASK, nothing, **SIZES), TrainLayout.padded(nothing, **SIZES)):
        assert len(layout.labels_A) == 0


@pytest.mark.parametrize("kind", ["packed", "padded"])
def test_a_layout_is_moved_without_waiting(kind):
    layout = TrainLayout.packed(MASK, LABELS, **SIZES)
    if kind == "padded":
        layout = TrainLayout.padded(LABELS, **SIZES)
    with SimulatedDevice() as device:
        there = layout.to(NAME)

        assert device.num_waits == 0
        assert str(there.logits_at.device) == NAME
        assert there.logits_at.cpu().tolist() == layout.logits_at.tolist()
