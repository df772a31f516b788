"""Answers added to and removed from a batch are those of transformers' generate, token for token."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MistralConfig,
    Qwen3Config,
)

from mats_ray.config.generation import PROFILES
from mats_ray.errors import AnswerError, ModelError
from mats_ray.models.generation.batch import ContinuousBatch
from mats_ray.models.generation.kv_cache import KVCache, is_supported
from mats_ray.models.generation.search import Penalties, SearchSettings, TokenSequence
from mats_ray.models.mats import MATS
from mats_ray.models.splice import pad_left
from tests.world import seeded

VOCABULARY, WIDTH, EOS = 40, 16, 0
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [5, 6], [20, 21, 22]]


PENALTIES = {"repetition_penalty": 2.0, "no_repeat_ngram_size": 2}


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


SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.6,
    "bos_token_id": EOS,
    "eos_token_id": EOS,
    "pad_token_id": None,
}
GROUPED = SIZES | {"intermediate_size": 32, "num_key_value_heads": 1, "head_dim": 8}
OTHERS = {
    "sliding window": MistralConfig(**GROUPED, sliding_window=4),
    "every other layer slides": Gemma2Config(**GROUPED, sliding_window=4),
    "Qwen 3": Qwen3Config(**GROUPED),
    "ALiBi": BloomConfig(**SIZES),
}


@pytest.fixture(params=[llama, gpt2])
def model(request):
    return mats(request.param)


def mats(make_llm):
    with seeded(3):
        llm = make_llm().eval()
    return MATS(Connector(), llm, before_ids=[1, 2], eos_id=EOS)


@pytest.fixture
def clap():
    return torch.randn(len(PROMPTS), WIDTH, generator=torch.Generator().manual_seed(1))


def sequence(profile, max_new_tokens, *, stream=True):
    profile = PROFILES[profile]
    penalties = Penalties(
        repetition_penalty=profile.repetition_penalty,
        no_repeat_ngram_size=profile.no_repeat_ngram_size,
    )
    settings = SearchSettings(max_new_tokens=max_new_tokens, num_beams=profile.num_beams, penalties=penalties)
    return TokenSequence(settings, stream=stream)


def add(batch, model, clap, prompts, sequences):
    batch.add(pad_left(model.prompt(clap, prompts)), sequences)


def by_transformers(model, clap_1C, prompt, *, max_new_tokens, **decoding):
    """Return the ids that ``generate`` gives up to EOS, and whether there is one."""
    with torch.no_grad():
        prompts = pad_left(model.prompt(clap_1C, [prompt]))
        (found,) = model.generate_by_transformers(prompts, max_new_tokens=max_new_tokens, **decoding)
    return found.ids, found.ended


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kind", OTHERS)
def test_caches_of_other_kinds_are_known(kind, clap, profile):
    model = mats(lambda: AutoModelForCausalLM.from_config(OTHERS[kind]))

    assert model.can_step
    answers_are_those_of_transformers(model, clap, profile)


def test_recurrent_layers_are_left_to_transformers(clap):
    config = MambaConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=1, state_size=4)
    model = mats(lambda: AutoModelForCausalLM.from_config(config))

    answers = model.generate(clap[:1], PROMPTS[:1], max_new_tokens=3)

    assert not is_supported(config)
    assert [(one.ids, one.ended) for one in answers] == [
        by_transformers(model, clap[:1], PROMPTS[0], max_new_tokens=3)
    ]


@pytest.mark.parametrize("profile", PROFILES)
def test_answers_added_later_change_no_other(model, clap, profile):
    answers_are_those_of_transformers(model, clap, profile)


def answers_are_those_of_transformers(model, clap, profile):
    """Add answers to a batch at different steps; each is removed when it is finished."""
    limits = [12, 3, 9, 1, 12]
    sequences = [sequence(profile, limit) for limit in limits]
    published = [[] for _ in sequences]
    batch = ContinuousBatch(model.llm, eos_id=EOS)

    joining = [[0, 1], [2], [], [3, 4]]
    while joining or batch.sequences:
        new = joining.pop(0) if joining else []
        if new:
            add(batch, model, clap[new], [PROMPTS[n] for n in new], [sequences[n] for n in new])
        if batch.sequences:
            batch.step()
        for ids, one in zip(published, sequences, strict=True):
            assert one.ids[: len(ids)] == ids  # published ids never change
            ids[:] = one.ids

    for n, one in enumerate(sequences):
        decoding = {"max_new_tokens": limits[n], **PROFILES[profile].as_kwargs()}
        assert (one.ids, one.ended) == by_transformers(model, clap[n : n + 1], PROMPTS[n], **decoding)


def test_some_end_by_themselves(model, clap):
    ends = [model.generate(clap[n : n + 1], [PROMPTS[n]], max_new_tokens=12)[0].ended for n in range(5)]

    assert any(ends) or isinstance(model.llm, GPT2LMHeadModel)


def test_one_that_is_dropped_leaves_the_others_as_they_are(model, clap):
    sequences = [sequence("paper", 8), sequence("fast", 8), sequence("paper", 8)]
    batch = ContinuousBatch(model.llm, eos_id=EOS)
    add(batch, model, clap[:3], PROMPTS[:3], sequences)

    batch.step()
    batch.drop(sequences[0])
    batch.drop(sequences[0])
    while batch.sequences:
        batch.step()

    for n, profile in ((1, "fast"), (2, "paper")):
        expected, _ = by_transformers(
            model, clap[n : n + 1], PROMPTS[n], max_new_tokens=8, **PROFILES[profile].as_kwargs()
        )
        assert sequences[n].ids == expected


def test_the_batch_shrinks_when_the_longest_is_removed(model, clap):
    short, long = sequence("fast", 12), sequence("fast", 1)
    batch = ContinuousBatch(model.llm, eos_id=EOS)

    add(batch, model, clap[1:3], [PROMPTS[1], PROMPTS[2]], [short, long])

    assert batch._parts[0].cache.mask_RS.shape[1] == 2 + Connector.prefix_length + len(PROMPTS[1])


def test_a_cache_that_forgets_is_refused(model, clap, monkeypatch):
    layer = type("SlidingLayer", (), {})()
    original = model.llm.forward

    def forward(*args, **kwargs):
        output = original(*args, **kwargs)
        output.past_key_values.layers.append(layer)
        return output

    monkeypatch.setattr(model.llm, "forward", forward)

    with pytest.raises(ModelError, match="SlidingLayer"):
        add(ContinuousBatch(model.llm, eos_id=EOS), model, clap[:1], PROMPTS[:1], [sequence("fast", 2)])


def scarce(original, limit):
    """A step of the cache for which there is memory for so many rows."""

    def method(self, *args, **kwargs):
        rows = len(args[0]) if args and isinstance(args[0], list | torch.Tensor) else len(self)
        if rows > limit:
            raise torch.OutOfMemoryError
        return original(self, *args, **kwargs)

    return method


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("step", ["step", "selected", "_selected_buffers", "joined"])
def test_where_memory_is_short_answers_continue_in_smaller_batches(model, clap, monkeypatch, step, profile):
    sequences = [sequence(profile, 9) for _ in PROMPTS]
    one_answer = PROFILES[profile].num_beams
    monkeypatch.setattr(KVCache, step, scarce(getattr(KVCache, step), one_answer))
    batch = ContinuousBatch(model.llm, eos_id=EOS)

    add(batch, model, clap[:3], PROMPTS[:3], sequences[:3])
    batch.step()
    add(batch, model, clap[3:], PROMPTS[3:], sequences[3:])
    while batch.sequences:
        batch.step()

    assert not any(one.error for one in sequences)
    for n, one in enumerate(sequences):
        decoding = {"max_new_tokens": 9, **PROFILES[profile].as_kwargs()}
        assert (one.ids, one.ended) == by_transformers(model, clap[n : n + 1], PROMPTS[n], **decoding)


@pytest.mark.parametrize("step", ["step", "selected"])
def test_answers_that_fail_by_themselves_are_removed_with_their_error(model, clap, monkeypatch, step):
    sequences = [sequence("fast", 9) for _ in PROMPTS]
    batch = ContinuousBatch(model.llm, eos_id=EOS)
    add(batch, model, clap, PROMPTS, sequences)
    going = batch.sequences
    monkeypatch.setattr(KVCache, step, scarce(getattr(KVCache, step), 0))

    batch.step()

    assert all(isinstance(one.error, torch.OutOfMemoryError) for one in going)
    assert [one for one in sequences if one.error] == going
    assert not batch.sequences


def test_the_rows_of_one_that_is_dropped_go_with_the_next_step(model, clap):
    sequences = [sequence("fast", 9) for _ in range(3)]
    batch = ContinuousBatch(model.llm, eos_id=EOS)
    add(batch, model, clap[:3], PROMPTS[:3], sequences)
    going = batch.sequences

    batch.drop(going[0])

    assert batch.sequences == going[1:]
    batch.step()
    assert sum(len(part.cache) for part in batch._parts) <= len(going) - 1
    for one in going[1:]:
        batch.drop(one)
    assert not batch._parts


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1e-320, 1e-40, 1e-36])
def test_an_answer_drawn_at_a_temperature_near_zero_is_the_greedy_one(model, clap, dtype, temperature):
    sequences = [
        TokenSequence(SearchSettings(max_new_tokens=9, temperature=one, seed=3)) for one in (0.0, temperature)
    ]
    model.to(dtype)
    batch = ContinuousBatch(model.llm, eos_id=EOS)

    add(batch, model, clap[[0, 0]].to(dtype), [PROMPTS[0]] * 2, sequences)
    while batch.sequences:
        batch.step()

    assert sequences[0].ids == sequences[1].ids


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("max_new_tokens", [1, 7, 30])
@pytest.mark.parametrize(
    "decoding",
    [{}, PROFILES["paper"].as_kwargs(), {"num_beams": 3}, {"num_beams": 2, **PENALTIES}, PENALTIES],
)
def test_a_batch_of_equal_settings_is_that_of_transformers(model, seed, max_new_tokens, decoding):
    clap = torch.randn(len(PROMPTS), WIDTH, generator=torch.Generator().manual_seed(seed))

    found = model.generate(clap, PROMPTS, max_new_tokens=max_new_tokens, **decoding)

    for n, prompt in enumerate(PROMPTS):
        expected = by_transformers(model, clap[n : n + 1], prompt, max_new_tokens=max_new_tokens, **decoding)
        assert (found[n].ids, found[n].ended) == expected


@pytest.mark.parametrize("num_beams", [VOCABULARY // 2 + 1, VOCABULARY])
def test_more_beams_than_half_the_vocabulary_are_those_of_transformers(model, clap, num_beams):
    decoding = {"max_new_tokens": 3, "num_beams": num_beams}

    (found,) = model.generate(clap[:1], PROMPTS[:1], **decoding)

    assert (found.ids, found.ended) == by_transformers(model, clap[:1], PROMPTS[0], **decoding)


def test_finished_answers_leave_the_batch(model, monkeypatch):
    clap = torch.randn(len(PROMPTS), WIDTH, generator=torch.Generator().manual_seed(0))
    widths = []
    forward = model.llm.forward
    monkeypatch.setattr(
        model.llm, "forward", lambda **inputs: widths.append(_rows(inputs)) or forward(**inputs)
    )

    found = model.generate(clap, PROMPTS, max_new_tokens=30, **PROFILES["paper"].as_kwargs())

    assert widths[:2] == [len(PROMPTS), 4 * len(PROMPTS)]  # a prompt is read once, not once per beam
    assert widths == [widths[0], *sorted(widths[1:], reverse=True)]
    assert (widths[-1] < widths[1]) == (len({len(one.ids) for one in found}) > 1)


def _rows(inputs):
    tensor = inputs.get("input_ids")
    return len(inputs["inputs_embeds"] if tensor is None else tensor)


@pytest.mark.parametrize("profile", PROFILES)
def test_logits_that_are_not_finite_fail_their_own_answers_only(model, clap, monkeypatch, profile):
    sequences = [sequence(profile, 9) for _ in PROMPTS]
    forward, bad = model.llm.forward, 2 + Connector.prefix_length + len(PROMPTS[2]) + 1

    def spoilt(**inputs):
        output = forward(**inputs)
        output.logits[(inputs["position_ids"] == bad).any(dim=1), :, 5] = torch.nan
        return output

    monkeypatch.setattr(model.llm, "forward", spoilt)
    batch = ContinuousBatch(model.llm, eos_id=EOS)
    add(batch, model, clap, PROMPTS, sequences)
    while batch.sequences and not sequences[2].error:
        batch.step()

    assert isinstance(sequences[2].error, AnswerError)
    assert [one for one in sequences if one.error] == [sequences[2]]
    monkeypatch.undo()
    while batch.sequences:
        batch.step()
    for n in (0, 1, 3, 4):
        decoding = {"max_new_tokens": 9, **PROFILES[profile].as_kwargs()}
        assert sequences[n].ids == by_transformers(model, clap[n : n + 1], PROMPTS[n], **decoding)[0]
