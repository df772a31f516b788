"""Answers that join and leave a batch at any time are those of transformers' generate, token for token."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from mats_ray.config.generation import PROFILES
from mats_ray.errors import ModelError
from mats_ray.models.cache import Rows
from mats_ray.models.mats import MATS
from mats_ray.models.search import BeamSearch, LineSearch, Penalties
from mats_ray.models.splice import pad_left
from mats_ray.models.stepwise import StepDecoder
from tests.world import seeded

VOCABULARY, WIDTH, EOS = 40, 16, 0
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [5, 6], [20, 21, 22]]


class Connector(torch.nn.Module):
    prefix_length = 2

    def forward(self, clap_BC):
        return torch.stack([clap_BC, clap_BC.flip(-1)], dim=1)


def llama():
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.7,
    )
    return LlamaForCausalLM(config)


def gpt2():
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=2, n_head=2, n_positions=64, initializer_range=0.5
    )
    return GPT2LMHeadModel(config)


@pytest.fixture(params=[llama, gpt2])
def model(request):
    with seeded(3):
        llm = request.param().eval()
    return MATS(Connector(), llm, before_ids=[1, 2], eos_id=EOS)


@pytest.fixture
def clap():
    return torch.randn(len(PROMPTS), WIDTH, generator=torch.Generator().manual_seed(1))


def search_of(profile, max_new_tokens):
    profile = PROFILES[profile]
    penalties = Penalties(
        repetition_penalty=profile.repetition_penalty,
        no_repeat_ngram_size=profile.no_repeat_ngram_size,
    )
    common = {"eos_id": EOS, "max_new_tokens": max_new_tokens, "penalties": penalties}
    if profile.num_beams > 1:
        return BeamSearch(num_beams=profile.num_beams, **common)
    return LineSearch(**common)


def by_transformers(model, clap_1C, prompt, *, max_new_tokens, **decoding):
    """What ``generate`` answers: ids up to EOS, and whether there is one."""
    with torch.no_grad():
        prompts = pad_left(model.prompt(clap_1C, [prompt]))
    (ids,) = model.generated(prompts, max_new_tokens=max_new_tokens, **decoding)
    return (ids[: ids.index(EOS)], True) if EOS in ids else (ids, False)


@pytest.mark.parametrize("profile", PROFILES)
def test_latecomers_change_nothing(model, clap, profile):
    limits = [12, 3, 9, 1, 12]
    searches = [search_of(profile, limit) for limit in limits]
    told = [[] for _ in searches]
    decoder = StepDecoder(model)

    joining = [[0, 1], [2], [], [3, 4]]
    while joining or decoder.active:
        new = joining.pop(0) if joining else []
        if new:
            decoder.add(clap[new], [PROMPTS[n] for n in new], [searches[n] for n in new])
        if decoder.active:
            decoder.step()
        for ids, search in zip(told, searches, strict=True):
            assert search.ids[: len(ids)] == ids  # nothing is taken back
            ids[:] = search.ids

    for n, search in enumerate(searches):
        decoding = {"max_new_tokens": limits[n], **PROFILES[profile].as_kwargs()}
        assert (search.ids, search.ended) == by_transformers(model, clap[n : n + 1], PROMPTS[n], **decoding)


def test_some_end_by_themselves(model, clap):
    ends = [model.generate(clap[n : n + 1], [PROMPTS[n]], max_new_tokens=12)[0].ended for n in range(5)]

    assert any(ends) or isinstance(model.llm, GPT2LMHeadModel)


def test_one_that_is_dropped_leaves_the_others_as_they_are(model, clap):
    searches = [search_of("paper", 8), search_of("fast", 8), search_of("paper", 8)]
    decoder = StepDecoder(model)
    decoder.add(clap[:3], PROMPTS[:3], searches)

    decoder.step()
    decoder.drop(searches[0])
    decoder.drop(searches[0])
    while decoder.active:
        decoder.step()

    for n, profile in ((1, "fast"), (2, "paper")):
        expected, _ = by_transformers(
            model, clap[n : n + 1], PROMPTS[n], max_new_tokens=8, **PROFILES[profile].as_kwargs()
        )
        assert searches[n].ids == expected


def test_the_batch_shrinks_when_the_longest_has_left(model, clap):
    short, long = search_of("fast", 12), search_of("fast", 1)
    decoder = StepDecoder(model)

    decoder.add(clap[1:3], [PROMPTS[1], PROMPTS[2]], [short, long])

    assert decoder._batches[0].rows.mask_RS.shape[1] == 2 + Connector.prefix_length + len(PROMPTS[1])


def test_a_cache_that_forgets_is_refused(model, clap, monkeypatch):
    layer = type("SlidingLayer", (), {})()
    original = model.llm.forward

    def forward(*args, **kwargs):
        output = original(*args, **kwargs)
        output.past_key_values.layers.append(layer)
        return output

    monkeypatch.setattr(model.llm, "forward", forward)

    with pytest.raises(ModelError, match="SlidingLayer"):
        StepDecoder(model).add(clap[:1], PROMPTS[:1], [search_of("fast", 2)])


def scarce(original, limit):
    """A step of the cache for which there is memory for so many rows."""

    def method(self, *args):
        rows = len(args[0]) if args and isinstance(args[0], list) else len(self)
        if rows > limit:
            raise torch.OutOfMemoryError
        return original(self, *args)

    return method


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("step", ["step", "selected", "joined"])
def test_where_memory_is_short_answers_go_on_in_smaller_batches(model, clap, monkeypatch, step, profile):
    searches = [search_of(profile, 9) for _ in PROMPTS]
    one_answer = PROFILES[profile].num_beams
    monkeypatch.setattr(Rows, step, scarce(getattr(Rows, step), one_answer))
    decoder = StepDecoder(model)

    failed = decoder.add(clap[:3], PROMPTS[:3], searches[:3])
    failed |= decoder.step()
    failed |= decoder.add(clap[3:], PROMPTS[3:], searches[3:])
    while decoder.active:
        failed |= decoder.step()

    assert not failed
    for n, search in enumerate(searches):
        decoding = {"max_new_tokens": 9, **PROFILES[profile].as_kwargs()}
        assert (search.ids, search.ended) == by_transformers(model, clap[n : n + 1], PROMPTS[n], **decoding)


@pytest.mark.parametrize("step", ["step", "selected"])
def test_answers_that_fail_by_themselves_all_leave_with_their_error(model, clap, monkeypatch, step):
    searches = [search_of("fast", 9) for _ in PROMPTS]
    decoder = StepDecoder(model)
    decoder.add(clap, PROMPTS, searches)
    going = decoder.active
    monkeypatch.setattr(Rows, step, scarce(getattr(Rows, step), 0))

    failed = decoder.step()

    assert set(failed) == set(going)
    assert all(isinstance(error, torch.OutOfMemoryError) for error in failed.values())
    assert not decoder.active


def test_the_rows_of_one_that_is_dropped_go_with_the_next_step(model, clap):
    searches = [search_of("fast", 9) for _ in range(3)]
    decoder = StepDecoder(model)
    decoder.add(clap[:3], PROMPTS[:3], searches)
    going = decoder.active

    decoder.drop(going[0])

    assert decoder.active == going[1:]
    decoder.step()
    assert sum(len(batch.rows) for batch in decoder._batches) <= len(going) - 1
    for search in going[1:]:
        decoder.drop(search)
    assert not decoder._batches


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1e-320, 1e-40, 1e-36])
def test_an_answer_drawn_at_a_temperature_near_zero_is_the_greedy_one(model, clap, dtype, temperature):
    searches = [
        LineSearch(eos_id=EOS, max_new_tokens=9, penalties=Penalties(), temperature=one, seed=3)
        for one in (0.0, temperature)
    ]
    model.to(dtype)
    decoder = StepDecoder(model)

    decoder.add(clap[[0, 0]].to(dtype), [PROMPTS[0]] * 2, searches)
    while decoder.active:
        assert not decoder.step()

    assert searches[0].ids == searches[1].ids
