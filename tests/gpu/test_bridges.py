"""Every bridge moves audio on the device as it does on the CPU, in batches of any size."""

import pytest
import torch

from tests.unit.models.bridges.cases import drawn, fitted

pytestmark = pytest.mark.gpu
BRIDGES = fitted(dim=512)


@pytest.mark.parametrize("name", BRIDGES)
@pytest.mark.parametrize("batch_size", [1, 33])
def test_the_device_moves_as_the_cpu_does(name, batch_size, device):
    audio = drawn(batch_size, seed=7, dim=512)

    moved = BRIDGES[name].to(device).transfer(audio.to(device))

    assert moved.device.type == device
    torch.testing.assert_close(moved.cpu(), BRIDGES[name].transfer(audio), atol=1e-5, rtol=0)
