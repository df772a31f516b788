"""Chat templates of published models as prompt formats, and templates that cannot be one."""

import datetime

import pytest

from mats_ray.errors import ModelError
from mats_ray.models.chat_template import choose_format, control_tokens
from mats_ray.models.prompt_format import VICUNA, PromptFormat
from tests.unit.models.chat_tokenizers import AUDIO, llama3, mistral_v1, mistral_v3, qwen3

EXPECTED = {
    qwen3: PromptFormat(
        name="chat",
        before="<|im_start|>user\n<Speech>",
        opening="</Speech> ",
        closing="",
        turn="<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        end="<|im_end|>",
    ),
    llama3: PromptFormat(
        name="chat",
        before="<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<Speech>",
        opening="</Speech> ",
        closing="",
        turn="<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        end="<|eot_id|>",
    ),
    mistral_v3: PromptFormat(
        name="chat",
        before="<s>[INST] <Speech>",
        opening="</Speech> ",
        closing="",
        turn="[/INST]",
        answer_start=" ",
        end="</s>",
    ),
    mistral_v1: PromptFormat(
        name="chat", before="<s>[INST] <Speech>", opening="</Speech> ", closing=" [/INST]", end="</s>"
    ),
}


@pytest.mark.parametrize("make", EXPECTED, ids=lambda make: make.__name__)
@pytest.mark.parametrize("choice", ["chat", "auto"])
def test_a_template_is_rendered_around_prefix_question_and_answer(make, choice):
    assert choose_format(make(), choice) == EXPECTED[make]


@pytest.mark.parametrize("make", EXPECTED, ids=lambda make: make.__name__)
def test_vicunas_needs_no_template(make):
    tokenizer = make()
    assert choose_format(tokenizer, "vicuna") is VICUNA

    tokenizer.chat_template = None
    assert choose_format(tokenizer, "auto") is VICUNA
    with pytest.raises(
        ModelError, match=r"has no chat template: use model\.llm\.prompt_format: auto or vicuna"
    ):
        choose_format(tokenizer, "chat")


def with_template(template):
    tokenizer = qwen3()
    tokenizer.chat_template = template
    return tokenizer


TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_system_prompt_that_a_template_adds_itself_stays():
    found = choose_format(with_template("<|im_start|>system\nBe kind.<|im_end|>\n" + TURNS), "chat")

    assert found.before == "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n<Speech>"


@pytest.mark.parametrize(
    "template",
    [
        "{{ strftime_now('%d %B %Y') }} " + TURNS,
        "{% if strftime_now is defined %}{% set today = strftime_now('%d %b %Y') %}{% endif %}{{ today }}"
        + TURNS,
    ],
)
def test_a_template_that_writes_the_date_makes_one_prompt_on_all_days(template):
    found = choose_format(with_template(template), "chat")

    assert found.before.startswith("26 Jul 2024")
    assert str(datetime.datetime.now(tz=datetime.UTC).year) not in found.before


def test_a_template_that_does_not_know_generation_prompts():
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"

    found = choose_format(with_template(template), "chat")

    assert found.turn == "<|im_end|>\n<|im_start|>assistant\n"
    assert (found.answer_start, found.answer_end, found.end) == ("", "", "<|im_end|>")


ALWAYS_THINKS = TURNS.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")


@pytest.mark.parametrize(
    ("template", "answer"),
    [
        (ALWAYS_THINKS, ""),  # DeepSeek R1's: a finished turn has no thinking
        (
            ALWAYS_THINKS.replace(
                "{{ m.content }}",
                "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}",
            ),
            "<think>\n\n</think>\n\n",
        ),  # Qwen3-Thinking's: it has an empty one
    ],
    ids=["dropped", "empty"],
)
def test_an_answer_stands_behind_a_thinking_and_not_in_it(template, answer):
    found = choose_format(with_template(template), "chat")

    assert found.turn == f"<|im_end|>\n<|im_start|>assistant\n{answer}"
    assert (found.answer_start, found.end) == ("", "<|im_end|>")


def test_no_thinking_is_the_one_of_the_prompt_where_a_finished_turn_has_none():
    """Qwen3's, as several repeat it."""
    template = TURNS.replace("assistant\n{% endif %}", "assistant\n<think>\n\n</think>\n\n{% endif %}")

    found = choose_format(with_template(template), "chat")

    assert found.turn == "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def test_a_blank_at_the_end_of_a_prompt_belongs_to_the_answer():
    template = TURNS.replace("\n{{ m.content }}", ": {{ m.content }}").replace("assistant\n", "assistant: ")

    found = choose_format(with_template(template), "chat")

    assert (found.turn, found.answer_start) == ("<|im_end|>\n<|im_start|>assistant:", " ")


def test_blanks_around_an_answer_belong_to_it():
    """LLaMA 2's."""
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
    )

    found = choose_format(with_template(template), "chat")

    assert (found.closing, found.turn) == (" [/INST]", "")
    assert (found.answer_start, found.answer_end, found.end) == (" ", " ", "<|im_end|>")


def test_an_answer_that_a_template_does_not_end_is_ended_by_eos():
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"

    assert choose_format(with_template(template), "chat").end == "<|im_end|>"


def test_one_of_several_templates_is_the_default():
    found = choose_format(with_template({"default": TURNS, "tool_use": "{{ 1 }}"}), "chat")

    assert found.before == "<|im_start|>user\n<Speech>"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('no user here') }}", "it fails: no user here"),
        ("{% for", "it fails: "),
        ("{{ messages[0].content.__class__.__mro__ }}", "it fails: "),
        ("{{ messages[0].colour.red }}", "it fails: 'dict object' has no attribute 'colour'"),
        ({"tool_use": TURNS}, "it fails: "),
        ("<|im_start|>user<|im_end|>", "it drops, repeats or changes the user's text"),
        (TURNS.replace("m.content", "m.content | upper"), "it drops, repeats or changes the user's text"),
        (TURNS.replace("m.content", "m.content | e"), "it drops, repeats or changes the user's text"),
        (TURNS.replace("m.content", "m.content | tojson"), "it drops, repeats or changes the user's text"),
        (TURNS.replace("m.content", "m.content[:20]"), "it drops, repeats or changes the user's text"),
        (TURNS + "{{ messages[0].content }}", "it drops, repeats or changes the user's text"),
        (
            "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
            "it drops, repeats or changes the assistant's text",
        ),
        (
            "{% for m in messages %}{{ m.content }} ### {% endfor %}",
            "behind an answer it writes ' ### ', which is no token",
        ),
        (TURNS + "x" * 20_001, "it writes 20"),
    ],
    ids=range(14),
)
def test_a_template_that_is_no_prompt_is_one_line(template, reason):
    with pytest.raises(ModelError) as caught:
        choose_format(with_template(template), "auto")

    message = str(caught.value)
    assert message.startswith("the chat template of the tokenizer ")
    assert f"cannot be used: {reason}" in message
    assert message.endswith("model.llm.prompt_format: vicuna does without it")
    assert len(message.splitlines()) == 1
    assert len(message) < 500


def test_without_any_end_there_is_no_format():
    tokenizer = with_template("{% for m in messages %}{{ m.content }}{% endfor %}")
    tokenizer.eos_token = None

    with pytest.raises(ModelError, match="it ends no answer, and there is no EOS token"):
        choose_format(tokenizer, "chat")


def test_control_tokens_are_all_added_ones_but_white_space():
    tokenizer = qwen3()
    tokenizer.add_tokens(["    ", "\n\n\n"])

    assert set(control_tokens(tokenizer)) == {
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        AUDIO,
        "<think>",
        "</think>",
        "<tool_call>",
    }
