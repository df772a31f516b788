"""Gradient checkpointing changes memory, and neither loss nor gradients."""

import pytest
import torch

from mats_ray.models.mats import TrainBatch
from mats_ray.models.splice import IGNORED

pytestmark = pytest.mark.gpu


def long_batch(rows=16, width=200):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 300, (rows, width), generator=generator)
    lengths = torch.randint(width // 2, width, (rows, 1), generator=generator)
    mask = (torch.arange(width)[None] < lengths).long()
    labels = ids.masked_fill((mask == 0) | (torch.arange(width)[None] < 10), IGNORED)
    return TrainBatch(torch.randn(rows, 16, generator=generator), ids, mask, labels)


def measure(model, device):
    batch = model.laid_out(long_batch()).to(device)
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    loss = model.train()(batch)
    loss.backward()
    peak = torch.cuda.max_memory_allocated() - before if device == "cuda" else 0
    return loss.item(), [p.grad for p in model.parameters() if p.requires_grad], peak


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gradients_are_the_same_and_the_memory_is_not(models, device, dtype):
    loss, gradients, peak = measure(models(dtype=dtype, device=device), device)
    model = models(dtype=dtype, device=device)
    model.llm.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})

    found, found_gradients, found_peak = measure(model, device)

    assert model.llm.get_base_model().is_gradient_checkpointing
    assert found == pytest.approx(loss, rel=1e-6)
    for one, other in zip(found_gradients, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))
    if device == "cuda":
        assert found_peak < peak
