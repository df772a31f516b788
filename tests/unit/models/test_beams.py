"""Beams of a whole batch find what transformers' generate finds, token for token, and let go what is done."""

import pytest
import torch

from mats_ray.config.generation import PROFILES
from mats_ray.models.beams import Beams
from mats_ray.models.search import Penalties
from tests.unit.models.test_stepwise import EOS, PROMPTS, WIDTH, by_transformers, model  # noqa: F401

PENALTIES = {"repetition_penalty": 2.0, "no_repeat_ngram_size": 2}


def clips(seed):
    return torch.randn(len(PROMPTS), WIDTH, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("max_new_tokens", [1, 7, 30])
@pytest.mark.parametrize(
    "decoding", [PROFILES["paper"].as_kwargs(), {"num_beams": 3}, {"num_beams": 2, **PENALTIES}]
)
def test_they_are_those_of_transformers(model, seed, max_new_tokens, decoding):  # noqa: F811
    found = model.generate(clips(seed), PROMPTS, max_new_tokens=max_new_tokens, **decoding)

    for n, prompt in enumerate(PROMPTS):
        alone = clips(seed)[n : n + 1]
        expected = by_transformers(model, alone, prompt, max_new_tokens=max_new_tokens, **decoding)
        assert (found[n].ids, found[n].ended) == expected


def test_finished_answers_leave_the_batch(model, monkeypatch):  # noqa: F811
    widths = []
    forward = model.llm.forward
    monkeypatch.setattr(
        model.llm, "forward", lambda **inputs: widths.append(_rows(inputs)) or forward(**inputs)
    )

    found = model.generate(clips(0), PROMPTS, max_new_tokens=30, **PROFILES["paper"].as_kwargs())

    assert widths[:2] == [len(PROMPTS), 4 * len(PROMPTS)]  # a prompt is read once, not once per beam
    assert widths == [widths[0], *sorted(widths[1:], reverse=True)]
    assert (widths[-1] < widths[1]) == (len({len(one.ids) for one in found}) > 1)


def _rows(inputs):
    tensor = inputs.get("input_ids")
    return len(inputs["inputs_embeds"] if tensor is None else tensor)


def test_an_answer_that_ends_is_kept_beside_those_that_go_on():
    beams = Beams(1, num_beams=2, eos_id=EOS, max_new_tokens=9, penalties=Penalties())
    sure, end = [-50.0, 9, 0, -50, -50], [9.0, -50, -50, -50, -50]

    parents, tokens = beams.advance(torch.tensor([sure]))
    assert (parents, tokens) == ([0, 0], [1, 2])

    parents, tokens = beams.advance(torch.tensor([end, end]))
    assert beams.answers == [[1, EOS]]
    assert tokens == []
