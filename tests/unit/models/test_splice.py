"""The prefix stands between the prompt's halves; padding is masked, wherever it lies."""

import pytest
import torch

from mats_ray.models.splice import pad_left, splice

BEFORE = torch.full((2, 3), -1.0)
PREFIX = torch.arange(24.0).view(2, 4, 3)
AFTER = torch.arange(100.0, 118.0).view(2, 3, 3)
MASK = torch.tensor([[1, 1, 1], [1, 0, 0]])


def test_a_row_is_before_prefix_after():
    spliced = splice(BEFORE, PREFIX, AFTER, MASK)

    for row in range(2):
        assert torch.equal(spliced.embeds_BSL[row], torch.cat([BEFORE, PREFIX[row], AFTER[row]]))


def test_positions_count_real_tokens():
    spliced = splice(BEFORE, PREFIX, AFTER, MASK)

    assert spliced.mask_BS.tolist() == [[1] * 9, [1] * 7 + [0, 0]]
    assert spliced.positions_BS[0].tolist() == list(range(9))
    assert spliced.positions_BS[1, :7].tolist() == list(range(7))


def test_padding_moves_to_the_left_and_nothing_else_changes():
    right = splice(BEFORE, PREFIX, AFTER, MASK)

    left = pad_left(right)

    assert left.mask_BS.tolist() == [[1] * 9, [0, 0] + [1] * 7]
    assert left.positions_BS.tolist() == [list(range(9)), [0, 0, *range(7)]]
    for row in range(2):
        ours, theirs = left.embeds_BSL[row], right.embeds_BSL[row]
        assert torch.equal(ours[left.mask_BS[row] == 1], theirs[right.mask_BS[row] == 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_prefix_is_cast_to_the_precision_of_the_embeddings(dtype):
    """And not the other way round: the language model's matrices are in the precision of its words."""
    prefix = (PREFIX / 7).requires_grad_()

    embeds = splice(BEFORE.to(dtype), prefix, AFTER.to(dtype), MASK).embeds_BSL
    embeds.float().sum().backward()

    assert embeds.dtype == dtype
    assert torch.equal(embeds[:, 2:6], prefix.to(dtype))
    assert prefix.grad.dtype == torch.float32


def test_gradients_reach_the_prefix_through_both_ways():
    prefix = PREFIX.clone().requires_grad_()

    pad_left(splice(BEFORE, prefix, AFTER, MASK)).embeds_BSL.sum().backward()

    assert torch.equal(prefix.grad, torch.ones_like(PREFIX))
