"""Steps write to the room of their buffers, beams are put in order in them, and no memory shows through."""

import weakref

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


@pytest.fixture
def full_cache(llm, cache):
    """A cache without room, whose buffers no other fixture holds."""
    with torch.no_grad():
        full = cache.selected([3, 2, 1, 0])
        while full.mask_RS.shape[1] < buffers(full)[0].shape[2]:
            full = full.step(llm)[0]
    return full


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
@pytest.mark.parametrize("kept", [[2, 1], [3, 0]])
def test_rows_leave_with_one_more_buffer(cache, kept):
    expected, before = cache.selected(kept), set(places(cache))

    found = cache.selected(kept, reuse=True)

    assert len(set(places(found)) - before) == 1
    assert {one.shape[0] for one in buffers(found)} == {len(kept)}
    assert_equal(values(found), values(expected))


@torch.no_grad()
def test_halves_need_no_memory_and_step_as_the_whole_does(llm, cache, monkeypatch):
    whole, _ = cache.selected([3, 2, 1, 0]).step(llm)  # in buffers of its own
    with monkeypatch.context() as scarce:
        for name in ("new_empty", "index_select"):
            scarce.setattr(torch.Tensor, name, None)
        halves = [whole.selected([0, 1]), whole.selected([2, 3], [7, 7])]
    storages = [{one.untyped_storage().data_ptr() for one in buffers(part)} for part in (whole, *halves)]

    stepped = [half.step(llm) for half in halves]

    assert storages[0] == storages[1] == storages[2]
    expected, logits = whole.selected([0, 1, 2, 3], [0, 0, 7, 7]).step(llm)
    torch.testing.assert_close(torch.cat([one for _, one in stepped]), logits)
    for half, rows in zip(stepped, ([0, 1], [2, 3]), strict=True):
        for one, other in zip(values(half[0]), values(expected.selected(rows)), strict=True):
            torch.testing.assert_close(one, other)


@torch.no_grad()
def test_of_a_cache_that_grows_one_layer_at_a_time_is_there_twice(llm, full_cache, monkeypatch):
    held, alive, original = [weakref.ref(one) for one in buffers(full_cache)], [], kv_cache._empty_buffer

    def counted(*arguments):
        alive.append(sum(one() is not None for one in held))
        return original(*arguments)

    monkeypatch.setattr(kv_cache, "_empty_buffer", counted)
    full_cache.step(llm)

    assert alive == [4, 4, 2, 2]  # of two layers' keys and values


@torch.no_grad()
def test_without_memory_to_grow_a_cache_is_as_it_was(llm, full_cache, monkeypatch):
    before, selected = values(full_cache), values(full_cache.selected([3, 1]))
    original, allowed = kv_cache._empty_buffer, iter(range(3))

    def full(*arguments):
        if next(allowed, None) is None:
            raise torch.OutOfMemoryError
        return original(*arguments)

    monkeypatch.setattr(kv_cache, "_empty_buffer", full)
    with pytest.raises(torch.OutOfMemoryError):
        full_cache.step(llm)
    monkeypatch.undo()

    assert len({one.shape for one in buffers(full_cache)}) == 2
    assert_equal(values(full_cache), before)
    assert_equal(values(full_cache.selected([3, 1], reuse=True)), selected)


@torch.no_grad()
def test_without_memory_for_another_order_a_cache_is_as_it_was(cache, monkeypatch):
    before = values(cache)

    def full(*_args, **_kwargs):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.Tensor, "new_empty", full)
    with pytest.raises(torch.OutOfMemoryError):
        cache.selected([3, 2, 1, 0], reuse=True)

    assert_equal(values(cache), before)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_answers_do_not_depend_on_what_memory_held_before(llm, prompts, monkeypatch, num_beams):
    expected = answers(llm, prompts, num_beams)
    original = torch.Tensor.new_empty
    monkeypatch.setattr(kv_cache, "_ROOM", 4)
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *args: original(*args).fill_(float("nan")))

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
