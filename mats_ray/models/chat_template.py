"""The prompt format of a tokenizer's own chat template.

The template, code of somebody else, runs in transformers' sandbox, once, on a conversation of ours: a user
message with the marks of the audio prefix, and an answer. What it writes around them is the format; no text
of a user ever goes through it. It is asked for no thinking, and given no system prompt: one that it adds
itself stays.
"""

import re
from typing import Any

from transformers import PreTrainedTokenizerBase

from mats_ray.config.model import PromptChoice
from mats_ray.errors import ModelError, abbreviated
from mats_ray.models.prompt_format import MAX_CHARACTERS, OPENING, VICUNA, PromptFormat
from mats_ray.tasks import PROMPT_BEFORE

_MARK = PROMPT_BEFORE.rpartition(" ")[2]
"""``<Speech>``, without Vicuna's role before it."""
_PREFIX = "[[audio prefix]]"
_QUESTION = """Is "it" <b>HEARD</b> & isn't that {{ odd }} \\n 100 % \u00e9\u4f60 ?"""
_ANSWER = """It "is" <i>heard</i> & that's {{ all }}, 100 % \u00e9\u4f60 ."""
"""Texts that show any change: of case, quotes, angle brackets, escapes, letters beyond ASCII."""
_CONTENT = f"{_MARK}{_PREFIX}{OPENING}{_QUESTION}"
_NO_THINKING = {"enable_thinking": False, "thinking": False}
"""What Qwen3, SmolLM3, Granite, DeepSeek and others call it; a template that knows neither ignores both."""
_THINKING = "<think>", "</think>"
_FIXED_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"
"""A template that writes today's date would give a run another prompt every day: this one is what Llama 3's
writes where it knows no date."""


def choose_format(tokenizer: PreTrainedTokenizerBase, choice: PromptChoice) -> PromptFormat:
    """Return the prompt format that ``model.llm.prompt_format`` means for a tokenizer.

    Raises:
        ModelError: A template is wanted and there is none, or it cannot be used.
    """
    if choice == "vicuna" or (choice == "auto" and not tokenizer.chat_template):
        return VICUNA
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer {tokenizer.name_or_path!r} has no chat template: "
            "use model.llm.prompt_format: auto or vicuna"
        )
    return _format_of_template(tokenizer)


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """List the tokens that stand for more than their text: all added ones but runs of white space."""
    added = {token.content: index for index, token in tokenizer.added_tokens_decoder.items()}
    special = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return {text: index for text, index in {**added, **dict(special)}.items() if len(text.strip()) > 1}


def _format_of_template(tokenizer: PreTrainedTokenizerBase) -> PromptFormat:
    question = {"role": "user", "content": _CONTENT}
    prompt = _render(tokenizer, [question], add_generation_prompt=True)
    finished = _render(tokenizer, [question, {"role": "assistant", "content": _ANSWER}])
    start, behind = _around(tokenizer, prompt, _CONTENT, "the user's text")
    until_answer, ending = _around(tokenizer, finished, _ANSWER, "the assistant's text")
    _, between = _around(tokenizer, until_answer, _CONTENT, "the user's text")
    # before a finished answer there may be more than in the prompt for one: a blank, the assistant's role
    # where the template does not know add_generation_prompt, the end of a thinking that it always begins
    is_open = behind.count(_THINKING[0]) > behind.count(_THINKING[1])
    until = between if between.startswith(behind) or is_open else behind
    text = until.rstrip(" ")
    control = _pattern(tokenizer)
    first = control.search(text)
    at = len(text) if first is None else first.start()
    answer_end, end = _end(tokenizer, ending, control)
    return PromptFormat(
        name="chat",
        before=start + _MARK,
        opening=OPENING,
        closing=text[:at],
        turn=text[at:],
        answer_start=until[len(text) :],
        answer_end=answer_end,
        end=end,
    )


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], **options: Any) -> str:
    try:
        template = tokenizer.get_chat_template()
        if "strftime_now" in template:
            template = _FIXED_DATE + template
        text = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, **_NO_THINKING, **options
        )
    except Exception as error:
        raise _unusable(tokenizer, f"it fails: {abbreviated([error], width=200)}") from error
    assert isinstance(text, str)
    if len(text) > MAX_CHARACTERS:
        raise _unusable(tokenizer, f"it writes {len(text)} characters, at most {MAX_CHARACTERS} are allowed")
    return text


def _around(tokenizer: PreTrainedTokenizerBase, text: str, part: str, what: str) -> tuple[str, str]:
    """Return what stands before and behind the one occurrence of a part."""
    if text.count(part) != 1:
        raise _unusable(tokenizer, f"it drops, repeats or changes {what}")
    before, _, behind = text.partition(part)
    return before, behind


def _end(tokenizer: PreTrainedTokenizerBase, text: str, control: re.Pattern[str]) -> tuple[str, str]:
    """Find the token that ends an answer in what the template writes behind one, and the blanks before it."""
    found = control.search(text)
    before = text if found is None else text[: found.start()]
    if before.strip():
        raise _unusable(
            tokenizer, f"behind an answer it writes {abbreviated([repr(text)])}, which is no token"
        )
    if found is not None:
        return before, found.group()
    if not isinstance(tokenizer.eos_token, str):
        raise _unusable(tokenizer, "it ends no answer, and there is no EOS token")
    return "", tokenizer.eos_token


def _pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    longest_first = sorted(control_tokens(tokenizer), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")  # (?!) is found nowhere


def _unusable(tokenizer: PreTrainedTokenizerBase, reason: str) -> ModelError:
    return ModelError(
        f"the chat template of the tokenizer {tokenizer.name_or_path!r} cannot be used: {reason}; "
        "model.llm.prompt_format: vicuna does without it"
    )
