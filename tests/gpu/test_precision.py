"""Training and answering in every precision, on the device, against float32 on the CPU."""

import pytest
import torch

from mats_ray.config.generation import PROFILES

pytestmark = pytest.mark.gpu

TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 4e-3}
"""Relative, of the loss."""
GRADIENT_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.15, "float16": 0.02}
"""1 minus the cosine to those of float32. The weights are larger than a real model's, so rounding tells."""
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [5, 6]]


def loss_and_gradient(model, batch, device):
    loss = model(model.laid_out(batch).to(device))
    loss.backward()
    gradient = torch.cat([p.grad.float().flatten().cpu() for p in model.parameters() if p.requires_grad])
    return loss.item(), gradient


@pytest.fixture(scope="module")
def exact(models, batch):
    return loss_and_gradient(models(), batch, "cpu")


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_loss_and_gradients_are_those_of_float32(models, batch, device, exact, dtype):
    loss, gradient = loss_and_gradient(models(dtype=dtype, device=device), batch, device)

    assert loss == pytest.approx(exact[0], rel=TOLERANCE[dtype])
    assert torch.cosine_similarity(gradient, exact[1], dim=0) > 1 - GRADIENT_TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_few_updates_lower_the_loss(models, batch, device, dtype):
    model = models(dtype=dtype, device=device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    placed, losses = model.laid_out(batch).to(device), []
    for _ in range(25):
        loss = model(placed)
        (loss / batch.num_answer_tokens).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    assert losses[-1] < 0.7 * losses[0]


def answers(model, device, profile):
    clap = torch.randn(len(PROMPTS), 16, generator=torch.Generator().manual_seed(3)).to(device)
    decoding = PROFILES[profile].as_kwargs()
    return model.eval().generate(clap, PROMPTS, max_new_tokens=12, **decoding)


@pytest.mark.parametrize("profile", PROFILES)
def test_answers_in_float32_are_those_of_the_cpu(models, device, profile):
    assert answers(models(device=device), device, profile) == answers(models(), "cpu", profile)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_answers_in_half_precision_come_from_its_own_logits(models, device, dtype, profile):
    """Each token is one of the likeliest of a forward pass over the whole answer."""
    model = models(dtype=dtype, device=device)
    clap = torch.randn(len(PROMPTS), 16, generator=torch.Generator().manual_seed(3)).to(device)

    found = answers(model, device, profile)

    assert all(0 < len(answer.ids) <= 12 for answer in found)
    if profile == "fast":
        for row, answer in enumerate(found):
            with torch.no_grad():
                prompt = model.prompt(clap[row : row + 1], [PROMPTS[row] + answer.ids[:-1]])
                logits = model.llm(inputs_embeds=prompt.embeds_BSL).logits[0, -len(answer.ids) :].float()
            best = logits.amax(-1)
            chosen = logits.gather(1, torch.tensor(answer.ids, device=device)[:, None])[:, 0]
            assert (best - chosen <= 0.05 * logits.abs().amax(-1)).all()
