"""Small tensors from the host to a model's device, without waiting for what the device is at.

A plain copy to a GPU ends when all that was queued before it is done: the device then has nothing to do until
the host has queued more. From pinned memory a copy is queued as everything else.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy a tensor to a device; it is the same tensor where it lies there already.

    Args:
        tensor: Of any shape. On the host it must not be written to before the device has read it.
        device: Where to.
    """
    device = torch.device(device)
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def on_device(values: Sequence[Any], device: torch.device | str) -> Tensor:
    """Make an int64 tensor of numbers, or of lists of them, on a device."""
    return to_device(torch.tensor(values, dtype=torch.long), device)
