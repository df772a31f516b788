"""Every attention computes what eager attention computes: PyTorch's kernels, flash attention's package."""

import importlib.util

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

pytestmark = pytest.mark.gpu

KERNELS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
}
HALF = {"flash", "cuDNN"}
"""Kernels that know no float32 on a card."""
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}


def loss_and_gradient(model, batch, device):
    loss = model(model.laid_out(batch).to(device))
    loss.backward()
    return loss.item(), torch.cat([p.grad.float().flatten() for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kernel", KERNELS)
def test_packed_rows_under_each_kernel_equal_padded_rows_under_eager_attention(
    models, batch, device, kernel, dtype
):
    if device == "cpu" and kernel not in {"math", "flash"}:
        pytest.skip(f"the {kernel} kernel needs a GPU")
    if device == "cuda" and kernel in HALF and dtype == "float32":
        pytest.skip(f"the {kernel} kernel knows no float32")
    # all of the model in one precision: the mapper, float32 as loaded, would find no such kernel
    eager, chosen = (
        models(dtype=dtype, device=device, attention=one).to(getattr(torch, dtype))
        for one in ("eager", "sdpa")
    )
    loss, gradient = loss_and_gradient(eager, batch, device)

    with sdpa_kernel(KERNELS[kernel]):
        found, found_gradient = loss_and_gradient(chosen, batch, device)

    assert found == pytest.approx(loss, rel=TOLERANCE[dtype])
    assert torch.cosine_similarity(found_gradient, gradient, dim=0) > 1 - TOLERANCE[dtype]


@pytest.mark.parametrize("attention", ["sdpa", "flash_attention_2"])
def test_answers_equal_those_of_eager_attention(models, device, attention):
    dtype = "float32"
    if attention == "flash_attention_2":
        if device == "cpu" or importlib.util.find_spec("flash_attn") is None:
            pytest.skip("flash attention needs a GPU and its package")
        dtype = "bfloat16"
    clap = torch.randn(4, 16, generator=torch.Generator().manual_seed(3)).to(device)
    prompts = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [5, 6]]
    found, expected = (
        models(dtype=dtype, device=device, attention=one).eval().generate(clap, prompts, max_new_tokens=12)
        for one in (attention, "eager")
    )

    if dtype == "float32":
        assert found == expected
    else:  # rounding may turn a close decision, and what follows it
        assert sum(a.ids[:1] == b.ids[:1] for a, b in zip(found, expected, strict=True)) >= 3
