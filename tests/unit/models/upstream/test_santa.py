"""Differences between upstream's Santa and the paper's."""

import pytest
import torch
from torch.nn.functional import normalize

from mats_ray.models.bridges.kmeans import KMeansResult
from mats_ray.models.santa import SantaMemory
from mats_ray.models.upstream.santa import transfer_as_upstream

ROWS = torch.eye(4)
NUMBERS = {"num_neighbours": 3, "temperature": 0.1, "mix": 0.3}


@pytest.fixture(scope="module")
def memory():
    """One cluster of a single row, one of three."""
    return SantaMemory.of_clusters(ROWS, KMeansResult(ROWS[[0, 1]], torch.tensor([0, 1, 1, 1])))


def test_with_full_clusters_and_unit_audio_it_is_the_papers(memory):
    audio = normalize(torch.tensor([[0.0, 1.0, 0.5, 0.2]]), dim=-1)

    moved = transfer_as_upstream(memory, audio, **NUMBERS)

    torch.testing.assert_close(normalize(moved, dim=-1), memory.transfer(audio, **NUMBERS))


def test_the_length_of_the_audio_embedding_decides_how_much_it_moves(memory):
    audio = torch.tensor([[0.0, 1.0, 0.5, 0.2]])

    moved = [normalize(transfer_as_upstream(memory, scale * audio, **NUMBERS), dim=-1) for scale in (1, 30)]

    assert not torch.allclose(moved[0], moved[1], atol=1e-3)
    torch.testing.assert_close(memory.transfer(audio, **NUMBERS), memory.transfer(30 * audio, **NUMBERS))


def test_a_small_cluster_is_filled_up_with_its_first_row(memory):
    audio = torch.tensor([[0.0, 1.0, 0.5, 0.2]])

    moved = transfer_as_upstream(memory, audio, **NUMBERS | {"num_neighbours": 5})

    weights = torch.softmax(torch.tensor([1.0, 1.0, 1.0, 0.5, 0.2]) / 0.1, dim=0)
    text = torch.tensor([0.0, float(weights[:3].sum()), float(weights[3]), float(weights[4])])
    torch.testing.assert_close(moved[0], 0.7 * audio[0] + 0.3 * text)


def test_the_given_noise_is_added_to_the_neighbours(memory):
    audio, noise = torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.ones(1, 3, 4)

    moved = transfer_as_upstream(memory, audio, **NUMBERS, noise_variance=0.04, noise_BLC=noise)

    noised = normalize(ROWS[0] + 0.2, dim=-1)
    torch.testing.assert_close(moved[0], 0.7 * audio[0] + 0.3 * noised)


def test_noise_of_its_own_is_the_same_for_every_row_and_call(memory):
    audio = torch.tensor([[0.0, 1.0, 0.5, 0.2]]).expand(3, -1)

    moved = transfer_as_upstream(memory, audio, **NUMBERS, noise_variance=0.015)

    assert torch.equal(moved[0], moved[2])
    assert torch.equal(moved, transfer_as_upstream(memory, audio, **NUMBERS, noise_variance=0.015))
    assert not torch.allclose(moved, transfer_as_upstream(memory, audio, **NUMBERS))


@pytest.mark.parametrize("noise_variance", [0.0, 0.015])
def test_more_neighbours_than_are_filled_up_need_no_memory(memory, noise_variance):
    audio, noise = torch.tensor([[0.0, 1.0, 0.5, 0.2]]), {"noise_variance": noise_variance}

    moved = transfer_as_upstream(memory, audio, **NUMBERS | {"num_neighbours": 2**62}, **noise)

    filled = transfer_as_upstream(memory, audio, **NUMBERS | {"num_neighbours": 1024}, **noise)
    assert torch.equal(moved, filled)


@pytest.mark.parametrize("temperature", [5e-324, 1e-40])
@pytest.mark.parametrize("length", [1, 30, 1e15])
def test_a_temperature_near_zero_leaves_the_nearest_text(memory, temperature, length):
    audio = length * torch.tensor([[0.0, 1.0, 0.5, 0.2]])

    moved = transfer_as_upstream(memory, audio, **NUMBERS | {"temperature": temperature})

    torch.testing.assert_close(moved, 0.7 * audio + 0.3 * ROWS[1])
