"""Packed rows: each has the logits and gradients it has alone, in every architecture that is packed."""

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModelForCausalLM

from mats_ray.models.packing import SUPPORTED, Packing, enable, is_enabled, is_supported, unused_mask
from tests.world import seeded

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": None,
}
WINDOWS = {
    "mistral": {"sliding_window": 5},
    "qwen2": {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 1},
}
NUM_SHARED, LENGTHS = 3, (7, 1, 12, 4)


def language_model(model_type, **more):
    with seeded(3):
        config = AutoConfig.for_model(model_type, **SIZES, **more)
        return AutoModelForCausalLM.from_config(config).eval()


def rows():
    """A start that all share, (3, 32), and own tokens of each row."""
    with seeded(4):
        start = torch.randn(NUM_SHARED, 32).requires_grad_()
        return start, [torch.randn(length, 32).requires_grad_() for length in LENGTHS]


def packed_logits(llm, start, own):
    padded = pad_sequence(own, batch_first=True)
    mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in own], batch_first=True)
    packing = Packing.of(mask, num_shared=len(start))
    embeds = torch.cat([start, padded.flatten(0, 1)[packing.kept_M]])[None]
    enable(llm.config)
    logits = llm(
        inputs_embeds=embeds,
        attention_mask=unused_mask(embeds),
        position_ids=packing.positions_N[None],
        packing=packing,
        use_cache=False,
    ).logits[0]
    return list(logits[NUM_SHARED:].split(LENGTHS))


@pytest.mark.parametrize(
    ("model_type", "more"),
    [*((name, {}) for name in sorted(SUPPORTED)), *WINDOWS.items()],
    ids=lambda value: value if isinstance(value, str) else "window" * bool(value),
)
def test_each_row_has_the_logits_and_gradients_it_has_alone(model_type, more):
    llm = language_model(model_type, **more)
    assert is_supported(llm.config)
    start, own = rows()

    together = packed_logits(llm, start, own)
    torch.cat(together).square().sum().backward()

    gradients = [tensor.grad for tensor in (start, *own)]
    start, own = rows()
    alone = [llm(inputs_embeds=torch.cat([start, row])[None]).logits[0, NUM_SHARED:] for row in own]
    torch.cat(alone).square().sum().backward()
    for found, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for found, expected in zip(gradients, (start, *own), strict=True):
        torch.testing.assert_close(
            found, expected.grad, rtol=1e-3, atol=1e-3 * float(expected.grad.abs().max())
        )


def test_a_window_is_no_wider_packed_than_alone():
    start, own = rows()
    narrow, wide = (
        torch.cat(packed_logits(language_model("mistral", sliding_window=window), start, own))
        for window in (5, None)
    )

    assert (narrow - wide).abs().max() > 0.01


def test_an_attention_of_another_kind_is_not_packed():
    config = language_model("llama", attn_implementation="eager").config

    assert not is_supported(config)


def test_rows_that_are_not_packed_are_computed_as_before():
    llm, ids = language_model("llama"), torch.arange(12).view(2, 6)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])
    before = llm(input_ids=ids, attention_mask=mask).logits
    assert not is_enabled(llm.config)

    enable(llm.config)

    assert is_enabled(llm.config)
    assert is_supported(llm.config)
    assert torch.equal(llm(input_ids=ids, attention_mask=mask).logits, before)


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_layers_that_run_again_for_the_backward_pass_see_the_same_rows(model_type):
    """Gradient checkpointing: a layer runs again when the forward pass is long over."""
    gradients = []
    for is_checkpointed in (False, True):
        llm, (start, own) = language_model(model_type).train(), rows()
        for dropout in (module for module in llm.modules() if isinstance(module, torch.nn.Dropout)):
            dropout.p = 0.0
        if is_checkpointed:
            llm.gradient_checkpointing_enable({"use_reentrant": False})
        torch.cat(packed_logits(llm, start, own)).square().sum().backward()
        gradients.append([tensor.grad for tensor in (start, *own)])

    for found, expected in zip(*gradients, strict=True):
        assert torch.equal(found, expected)
