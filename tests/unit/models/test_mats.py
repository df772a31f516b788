"""The model: what it learns from, what its loss is, and that an answer is the same in any company."""

import copy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
)

from mats_ray.config.model import CLAPConfig, LLMConfig, LoRAConfig, MapperConfig, ModelConfig
from mats_ray.errors import AnswerError
from mats_ray.models import packing
from mats_ray.models.build import build_mats
from mats_ray.models.mats import TrainBatch, pad_right
from mats_ray.models.splice import IGNORED, pad_left
from tests.world import seeded, tiny_llm

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
}
GROUPED = SIZES | {"num_key_value_heads": 2}
ARCHITECTURES = {
    "LLaMA 3": (LlamaConfig(**GROUPED, rope_theta=500_000.0), ("q_proj", "v_proj")),
    "SmolLM2": (LlamaConfig(**GROUPED, tie_word_embeddings=True), ("q_proj", "v_proj")),
    "Qwen 3": (Qwen3Config(**GROUPED, head_dim=8), ("q_proj", "v_proj")),
    "Gemma 2": (Gemma2Config(**GROUPED, head_dim=8, final_logit_softcapping=2.0), ("q_proj", "v_proj")),
    "Cohere": (CohereConfig(**GROUPED, logit_scale=0.25), ("q_proj", "v_proj")),
    "GPT-NeoX": (GPTNeoXConfig(**SIZES), ("query_key_value",)),
    "GPT-2": (
        GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=256, initializer_range=0.3),
        ("c_attn",),
    ),
}
PAPER = {"num_beams": 4, "no_repeat_ngram_size": 2, "repetition_penalty": 2.0}
QUESTIONS = [
    "Describe the following audio in a caption.",
    "Is there a dog?",
    "dog?",
    "A b c d e f g h i j k?",
]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def saved(request, tmp_path_factory):
    """A model of any kind is identified by its directory and the modules LoRA adapts, nothing else."""
    config, targets = ARCHITECTURES[request.param]
    path = tiny_llm(tmp_path_factory.mktemp("llm"))  # for its tokenizer
    vocab_size = AutoModelForCausalLM.from_pretrained(path).config.vocab_size
    config.update({"vocab_size": vocab_size, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None})
    with seeded(1):
        AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return path, targets


@pytest.fixture(scope="module")
def architecture(saved):
    return build(*saved)


@pytest.fixture
def built(tmp_path):
    return build(tiny_llm(tmp_path / "llm"))


def build(path, targets=("q_proj", "v_proj"), dtype="float32"):
    config = ModelConfig(
        clap=CLAPConfig(dim=6),
        mapper=MapperConfig(hidden_dim=16, num_layers=1, num_heads=2, prefix_length=3, content_length=2),
        llm=LLMConfig(dtype=dtype, lora=LoRAConfig(rank=2, dropout=0.0, target_modules=targets)),
    )
    model, prompts = build_mats(config, llm_path=str(path), seed=0)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():  # a fresh adapter is zero, and a fresh prefix is the same for every clip
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=generator)
        model.connector.audio_mapper.linear.weight.mul_(20)
    return model.eval(), prompts


def clap(num_rows=4):
    return torch.randn(num_rows, 6, generator=torch.Generator().manual_seed(2))


def batch_of(prompts, rows=range(4)):
    answers = ["a dog barks while rain falls", "yes", "no", "a siren wails on the roof"]
    samples = [prompts.sample(QUESTIONS[row], answers[row], max_text_tokens=120) for row in rows]
    after, mask = pad_right([sample.prompt + sample.answer for sample in samples])
    labels = torch.full_like(after, IGNORED)
    for row, sample in enumerate(samples):
        end = len(sample.prompt) + len(sample.answer)
        labels[row, len(sample.prompt) : end] = after[row, len(sample.prompt) : end]
    return TrainBatch(clap()[list(rows)], after, mask, labels)


def test_the_loss_is_transformers_own(architecture):
    model, prompts = architecture
    batch = batch_of(prompts)

    spliced = model._splice(batch.clap_BC, batch.after_BT, batch.mask_BT)
    front = spliced.mask_BS.shape[1] - batch.labels_BT.shape[1]
    labels = torch.cat([torch.full((4, front), IGNORED), batch.labels_BT], dim=1)
    theirs = model.llm(
        inputs_embeds=spliced.embeds_BSL,
        attention_mask=spliced.mask_BS,
        position_ids=spliced.positions_BS,
        labels=labels,
    ).loss

    torch.testing.assert_close(model(batch), theirs * batch.num_answer_tokens, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("work", ["answer", "loss"])
def test_no_layer_is_given_rows_with_gaps_between_them(architecture, work):
    """PyTorch would multiply them one by one, in half precision by a copy of the weights for each."""
    model, prompts = architecture
    given = dict[str, torch.Tensor]()
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: given.update({name: args[0]}))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    if work == "answer":
        model.generate(clap(), [prompts.after(question) for question in QUESTIONS], max_new_tokens=1)
    else:
        model(batch_of(prompts))
    for hook in hooks:
        hook.remove()

    assert any("audio_llama_proj" in name for name in given)
    assert any("lm_head" in name for name in given)
    for name, rows in given.items():
        assert rows.is_contiguous(), name  # rows of one column each can be a view and are multiplied so, too


@pytest.mark.parametrize("decoding", [{}, PAPER], ids=["fast", "paper"])
def test_a_batch_answers_as_single_calls_do(architecture, decoding):
    model, prompts = architecture
    questions = [prompts.after(question) for question in QUESTIONS]

    together = model.generate(clap(), questions, max_new_tokens=12, **decoding)
    alone = [
        model.generate(clap()[row : row + 1], questions[row : row + 1], max_new_tokens=12, **decoding)[0]
        for row in range(4)
    ]

    assert together == alone


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 3e-2), ("float16", 4e-3)])
def test_a_half_precision_language_model_works_with_a_float32_connector(
    architecture, saved, dtype, tolerance
):
    exact, prompts = architecture
    model, _ = build(*saved, dtype=dtype)
    batch = batch_of(prompts)
    questions = [prompts.after(question) for question in QUESTIONS]

    loss = model(batch)
    loss.backward()

    torch.testing.assert_close(loss, exact(batch), rtol=tolerance, atol=0)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert all(bool(p.grad.isfinite().all()) for p in trained.values())
    frozen = [p for name, p in model.llm.named_parameters() if f"llm.{name}" not in trained]
    assert {p.dtype for p in frozen} == {getattr(torch, dtype)}
    found, expected = (first_logits(one, questions) for one in (model, exact))
    assert (torch.cosine_similarity(found, expected) > 1 - tolerance).all()
    for decoding in ({}, PAPER):
        assert all(one.ids for one in model.generate(clap(), questions, max_new_tokens=12, **decoding))


def first_logits(model, questions):
    """(4, V) float32, of prompts of many lengths in one batch."""
    prompts = pad_left(model.prompt(clap(), questions))
    output = model.llm(inputs_embeds=prompts.embeds_BSL, attention_mask=prompts.mask_BS)
    return output.logits[:, -1].float()


def test_the_loss_is_a_sum_however_the_batch_is_split(built):
    model, prompts = built

    whole = model(batch_of(prompts))

    for parts in ([[0], [1], [2], [3]], [[3, 1], [0, 2]]):
        torch.testing.assert_close(sum(model(batch_of(prompts, rows)) for rows in parts), whole)


def test_packed_rows_have_the_loss_and_gradients_of_padded_ones(built, monkeypatch):
    model, prompts = built
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    packed = model(batch_of(prompts))
    packed_gradients = torch.autograd.grad(packed, trained)

    monkeypatch.setattr(packing, "SUPPORTED", frozenset())
    padded = model(batch_of(prompts))

    torch.testing.assert_close(packed, padded)
    for found, expected in zip(packed_gradients, torch.autograd.grad(padded, trained), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_padding_of_any_id_changes_no_loss(built):
    model, prompts = built
    batch = batch_of(prompts)
    other = TrainBatch(
        batch.clap_BC,
        batch.after_BT.masked_fill(batch.mask_BT == 0, 17),
        batch.mask_BT,
        batch.labels_BT,
    )

    torch.testing.assert_close(model(other), model(batch))


def test_a_batch_without_answers_has_no_loss(built):
    model, prompts = built
    batch = batch_of(prompts)

    loss = model(
        TrainBatch(batch.clap_BC, batch.after_BT, batch.mask_BT, torch.full_like(batch.labels_BT, IGNORED))
    )

    assert loss.item() == 0


def test_gradient_reaches_connector_and_lora_and_nothing_else(built):
    model, prompts = built

    model.train()(batch_of(prompts)).backward()

    for name, parameter in model.named_parameters():
        is_trained = name.startswith("connector.") or ".lora_" in name
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached == is_trained, name


def test_the_loss_is_single_precision_whatever_the_model_is(built):
    model, prompts = built

    assert model.bfloat16()(batch_of(prompts)).dtype == torch.float32


def test_a_row_is_ended_by_its_own_eos(built):
    model, prompts = built
    questions = [prompts.after(question) for question in QUESTIONS]
    endless = model.generate(clap(), questions, max_new_tokens=12)
    model.eos_id = endless[1].ids[3]

    ended = model.generate(clap(), questions, max_new_tokens=12)

    for before, after in zip(endless, ended, strict=True):
        if model.eos_id in before.ids:
            assert (after.ids, after.ended) == (before.ids[: before.ids.index(model.eos_id)], True)
        else:
            assert (after.ids, after.ended) == (before.ids, False)
    assert {answer.ended for answer in ended} == {True, False}


def test_an_answer_depends_on_the_clip_and_on_the_question(built):
    model, prompts = built
    same_question = model.generate(clap(), [prompts.after(QUESTIONS[0])] * 4, max_new_tokens=12)
    same_clip = model.generate(
        clap(1).expand(4, -1), [prompts.after(q) for q in QUESTIONS], max_new_tokens=12
    )

    for answers in (same_question, same_clip):
        assert len({tuple(answer.ids) for answer in answers}) > 1


@pytest.mark.parametrize("decoding", [{}, PAPER], ids=["fast", "paper"])
def test_the_same_question_has_the_same_answer(built, decoding):
    model, prompts = built
    questions = [prompts.after(question) for question in QUESTIONS]

    first, second = (model.generate(clap(), questions, max_new_tokens=12, **decoding) for _ in range(2))

    assert first == second


def test_the_models_own_sampling_defaults_do_not_leak_in(built):
    model, prompts = built
    questions = [prompts.after(question) for question in QUESTIONS]
    plain = model.generate(clap(), questions, max_new_tokens=12)

    config = model.llm.get_base_model().generation_config
    config.repetition_penalty, config.no_repeat_ngram_size, config.do_sample = 3.0, 1, True

    assert model.generate(clap(), questions, max_new_tokens=12) == plain


def test_a_batch_counts_its_tokens(built):
    _, prompts = built
    batch = batch_of(prompts)

    assert batch.num_answer_tokens == int((batch.labels_BT != IGNORED).sum())
    assert batch.num_text_tokens == int(batch.mask_BT.sum())


def test_rows_are_padded_on_the_right():
    ids, mask = pad_right([[5, 6, 7], [8]], value=9)

    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10_000.0}
LLAMA_3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        (GPT2Config(n_positions=96), 96),
        (LlamaConfig(max_position_embeddings=300), 300),
        (LlamaConfig(max_position_embeddings=300, rope_scaling={"type": "linear", "factor": 4.0}), 1200),
        (LlamaConfig(max_position_embeddings=300, rope_scaling={"rope_type": "dynamic", "factor": 2.0}), 600),
        (LlamaConfig(max_position_embeddings=300, rope_scaling=YARN), 1200),
        (
            LlamaConfig(
                max_position_embeddings=1200,
                rope_scaling=YARN | {"original_max_position_embeddings": 300},
            ),
            1200,
        ),
        (
            LlamaConfig(
                max_position_embeddings=2400,
                rope_scaling=LLAMA_3 | {"original_max_position_embeddings": 300, "rope_theta": 10_000.0},
            ),
            2400,
        ),
        (MistralConfig(max_position_embeddings=300, sliding_window=64), 300),
        (BloomConfig(), None),
    ],
    ids=["GPT-2", "LLaMA", "linear", "dynamic", "yarn", "yarn, adjusted", "LLaMA 3", "sliding", "ALiBi"],
)
def test_the_positions_are_those_transformers_gives_a_model(built, config, positions):
    built[0].llm.get_base_model().config = config

    assert built[0].max_positions == positions


@pytest.mark.parametrize("name", ["GPT-2", "LLaMA 3"])
@pytest.mark.parametrize("decoding", [{}, PAPER])
def test_an_answer_may_reach_the_last_position(tmp_path, name, decoding):
    config, targets = copy.deepcopy(ARCHITECTURES[name])
    path = tiny_llm(tmp_path)
    config.update({"vocab_size": 320, "bos_token_id": 0, "eos_token_id": None, "pad_token_id": None})
    with seeded(1):
        AutoModelForCausalLM.from_config(config).save_pretrained(path)
    model, _ = build(path, targets)
    model.eos_id = 10_000  # never generated
    prompt = [5] * (256 - 20 - len(model.before_F) - 3)

    (generated,) = model.generate(clap(1), [prompt], max_new_tokens=20, **decoding)

    assert len(generated.ids) == 20


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("decoding", [PAPER, {}, PAPER | {"length_penalty": 2.0}])
def test_logits_that_are_not_finite_never_become_an_answer(built, monkeypatch, decoding, bad):
    model, prompts = built
    forward = model.llm.get_base_model().forward

    def spoilt(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.logits[-1, :, :] = bad
        return output

    monkeypatch.setattr(model.llm.get_base_model(), "forward", spoilt)

    with pytest.raises(AnswerError, match="not finite"):
        model.generate(clap(2), [prompts.after(QUESTIONS[0])] * 2, max_new_tokens=5, **decoding)


@pytest.mark.parametrize("max_new_tokens", [0, -1])
def test_an_answer_of_no_tokens_is_refused(built, max_new_tokens):
    with pytest.raises(ValueError, match=f"max_new_tokens={max_new_tokens}"):
        built[0].generate(clap(1), [[5]], max_new_tokens=max_new_tokens, **PAPER)
