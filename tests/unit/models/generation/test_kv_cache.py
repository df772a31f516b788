"""Steps write to the room of their buffers, beams are put in order in them, and no memory shows through."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mats_ray.models.generation import kv_cache
from mats_ray.models.generation.batch import ContinuousBatch
from mats_ray.models.generation.kv_cache import read_prompts
from mats_ray.models.generation.search import SearchSettings, TokenSequence
from mats_ray.models.splice import Spliced
from tests.world import seeded

WIDTH, LENGTHS = 16, [5, 3, 4]
ROWS = len(LENGTHS)


@pytest.fixture(scope="module")
def llm():
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.7,
    )
    with seeded(3):
        return LlamaForCausalLM(config).eval()


@pytest.fixture
def prompts():
    embeds = torch.randn(ROWS, max(LENGTHS), WIDTH, generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(max(LENGTHS))[None] >= max(LENGTHS) - torch.tensor(LENGTHS)[:, None]).long()
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return Spliced(embeds, mask, positions, lengths=LENGTHS)


@pytest.fixture
def cache(llm, prompts):
    with torch.no_grad():
        return read_prompts(llm, prompts)[0].selected([0, 1, 2, 0])


def buffers(cache):
    return [one for pair in cache._buffers for one in pair]


def places(cache):
    return [one.data_ptr() for one in buffers(cache)]


def values(cache):
    return [one.clone() for pair in cache.layers for one in pair]


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@torch.no_grad()
def test_steps_write_to_the_same_buffers_until_they_are_full(llm, cache):
    before, first, columns = places(cache), values(cache), buffers(cache)[0].shape[2]
    for _ in range(columns - cache.mask_RS.shape[1]):
        cache, _ = cache.step(llm)

    assert places(cache) == before
    assert_equal([one[:, :, : max(LENGTHS)] for one in values(cache)], first)

    longer, _ = cache.step(llm)

    assert not set(places(longer)) & set(before)
    assert_equal([one[:, :, :columns] for one in values(longer)], values(cache))


@torch.no_grad()
def test_a_cache_does_not_see_what_a_step_from_it_writes(llm, cache):
    before = values(cache)

    cache.step(llm)

    assert_equal(values(cache), before)


@torch.no_grad()
@pytest.mark.parametrize("kept", [[3, 2, 1, 0], [1, 1, 2, 2]])
def test_rows_are_put_in_order_with_one_more_buffer(cache, kept):
    expected, before = cache.selected(kept, [1, 2, 3, 4]), set(places(cache))

    found = cache.selected(kept, [1, 2, 3, 4], reuse=True)

    assert len(set(places(found)) - before) == 1
    assert_equal(values(found), values(expected))
    assert torch.equal(found.mask_RS, expected.mask_RS)
    assert (found.lengths, found.tokens_R1.tolist()) == (expected.lengths, expected.tokens_R1.tolist())


@torch.no_grad()
def test_fewer_rows_get_buffers_of_their_size(cache):
    before = set(places(cache))

    found = cache.selected([2, 1], reuse=True)

    assert not set(places(found)) & before
    assert {len(one) for one in buffers(found)} == {2}


@torch.no_grad()
def test_without_memory_for_another_order_a_cache_is_as_it_was(cache, monkeypatch):
    before = values(cache)

    def full(*_args, **_kwargs):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch, "empty_like", full)
    with pytest.raises(torch.OutOfMemoryError):
        cache.selected([3, 2, 1, 0], reuse=True)

    assert_equal(values(cache), before)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_answers_do_not_depend_on_what_memory_held_before(llm, prompts, monkeypatch, num_beams):
    expected = answers(llm, prompts, num_beams)
    original, original_like = kv_cache._empty_buffer, torch.empty_like
    monkeypatch.setattr(kv_cache, "_ROOM", 4)
    monkeypatch.setattr(kv_cache, "_empty_buffer", lambda *args: original(*args).fill_(float("nan")))
    monkeypatch.setattr(torch, "empty_like", lambda *args: original_like(*args).fill_(float("nan")))

    assert answers(llm, prompts, num_beams) == expected


def answers(llm, prompts, num_beams):
    """Answer; another row joins later."""
    settings = SearchSettings(max_new_tokens=11, num_beams=num_beams)
    sequences, batch = [TokenSequence(settings) for _ in range(ROWS + 1)], ContinuousBatch(llm, eos_id=-1)
    batch.add(prompts, sequences[:ROWS])
    for _ in range(5):
        batch.step()
    alone = Spliced(
        prompts.embeds_BSL[:1], prompts.mask_BS[:1], prompts.positions_BS[:1], lengths=LENGTHS[:1]
    )
    batch.add(alone, sequences[ROWS:])
    while batch.sequences:
        batch.step()
    assert not any(one.error for one in sequences)
    return [one.ids for one in sequences]
