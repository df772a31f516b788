"""Numbers on their way to a device: nothing waits for them, and the simulation sees what does wait."""

import pytest
import torch

from mats_ray.models.device import on_device, to_device
from tests.simulated_device import NAME, SimulatedDevice


def test_numbers_arrive():
    assert on_device([3, 1], "cpu").tolist() == [3, 1]
    assert on_device([[1, 2], [3, 4]], "cpu").shape == (2, 2)
    assert on_device([], "cpu").dtype == torch.int64


def test_a_tensor_that_is_there_is_not_copied():
    tensor = torch.ones(3)

    assert to_device(tensor, "cpu") is tensor


def test_nothing_waits_for_a_copy_to_the_device():
    with SimulatedDevice() as device:
        found = on_device([3, 1], NAME)
        twice = to_device(torch.ones(2, 2), NAME) * 2

        assert (str(found.device), str(twice.device)) == (NAME, NAME)
        assert (device.num_waits, device.written) == (0, 2)
        assert (found.cpu().tolist(), twice.cpu().tolist()) == ([3, 1], [[2, 2], [2, 2]])


@pytest.mark.parametrize(
    "wait",
    [
        lambda there: there.cpu(),
        lambda there: there.sum().item(),
        lambda there: bool(there.any()),
        lambda there: there[there > 1],
        lambda there: there.nonzero(),
        lambda there: torch.ones(2).to(there.device),
    ],
    ids=["cpu", "item", "bool", "by a mask", "nonzero", "a plain copy"],
)
def test_the_simulation_counts_what_waits(wait):
    with SimulatedDevice() as device:
        there = to_device(torch.arange(4.0), NAME)
        assert device.num_waits == 0

        wait(there)

        assert device.num_waits == 1


def test_the_simulation_refuses_tensors_of_both_sides():
    with SimulatedDevice():
        there = to_device(torch.arange(4.0), NAME)

        for mixed in (lambda: there + torch.arange(4.0), lambda: there[[1, 0]]):
            with pytest.raises(AssertionError, match="of the host"):
                mixed()


def test_the_simulation_computes_in_place_and_on_views():
    with SimulatedDevice():
        there = torch.zeros(2, 3, device=NAME)
        there[0] += 1
        there.mul_(2)

        assert there.cpu().tolist() == [[2, 2, 2], [0, 0, 0]]
