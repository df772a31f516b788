"""What every bridge keeps to: rows alone, float32, nothing drawn, empty batches, one width."""

import pytest
import torch

from tests.simulated_device import NAME, SimulatedDevice
from tests.unit.models.bridges.cases import DIM, drawn, fitted

BRIDGES = fitted()


@pytest.fixture(params=BRIDGES)
def bridge(request):
    return BRIDGES[request.param]


def test_a_row_does_not_depend_on_its_batch_to_the_last_bit(bridge):
    audio = drawn(33, seed=7)

    together = bridge.transfer(audio)

    for row in range(len(audio)):
        assert torch.equal(bridge.transfer(audio[row : row + 1])[0], together[row])
    order = torch.randperm(len(audio), generator=torch.Generator().manual_seed(1))
    assert torch.equal(bridge.transfer(audio[order]), together[order])


def test_a_wide_row_does_not_depend_on_its_batch_either():
    audio = drawn(9, seed=7, dim=515)  # no multiple of a vector register

    for wide in fitted(dim=515).values():
        together = wide.transfer(audio)
        assert torch.equal(torch.cat([wide.transfer(row[None]) for row in audio]), together)


def test_the_input_stays_and_the_result_is_the_same_again(bridge):
    audio = drawn(5, seed=7)
    before = audio.clone()

    first, again = bridge.transfer(audio), bridge.transfer(audio)

    assert torch.equal(first, again)
    assert torch.equal(audio, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_give_float32(bridge, dtype):
    audio = drawn(4, seed=7).to(dtype)

    moved = bridge.transfer(audio)

    assert moved.dtype == torch.float32
    torch.testing.assert_close(moved, bridge.transfer(audio.float()), rtol=0, atol=1e-6)


def test_an_empty_batch_stays_one(bridge):
    assert bridge.transfer(torch.empty(0, DIM)).shape == (0, DIM)


@pytest.mark.parametrize("name", [name for name in BRIDGES if name != "none"])
def test_another_width_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match=r"^embeddings are 5-d, the (bridge|Santa memory) is 8-d$"):
        BRIDGES[name].transfer(torch.ones(2, 5))


@pytest.mark.parametrize("name", ["santa", "mean_shift", "projection", "spectral"])
def test_results_are_unit_vectors_whatever_the_length_of_the_audio(name):
    audio = drawn(6, seed=7)

    moved = BRIDGES[name].transfer(audio)

    torch.testing.assert_close(moved.norm(dim=-1), torch.ones(6))
    torch.testing.assert_close(BRIDGES[name].transfer(32 * audio), moved)


@pytest.mark.parametrize("name", ["none", "mean_shift", "spectral"])
def test_a_copy_on_another_device_moves_alike(name):
    """Products of the others cannot be simulated; ``tests/gpu`` has all on a GPU."""
    audio, bridge = drawn(3, seed=7), BRIDGES[name]
    expected = bridge.transfer(audio)
    with torch.no_grad(), SimulatedDevice():
        moved = bridge.to(NAME).transfer(audio.to(NAME))

        assert str(moved.device) == NAME
        moved = moved.cpu()

    torch.testing.assert_close(moved, expected)


def test_no_bridge_leaves_lengths_alone():
    audio = 7 * drawn(3, seed=7)

    assert torch.equal(BRIDGES["none"].transfer(audio), audio)
