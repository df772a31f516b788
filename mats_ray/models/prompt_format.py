r"""The texts of a prompt around audio prefix, instruction and answer: data that a model directory stores.

Two kinds. ``vicuna``, upstream's (paper section 3.2), the only one of directories that name none::

    <s>USER: <Speech>[prefix vectors]</Speech> {instruction}\nASSISTANT: {answer}</s>

``chat`` is what the chat template of a language model's tokenizer makes of one user message with the same
marks around the prefix; ``chat_template.py`` renders it once, when training starts. Qwen3's, for example::

    <|im_start|>user\n<Speech>[prefix vectors]</Speech> {instruction}<|im_end|>\n<|im_start|>assistant\n
    <think>\n\n</think>\n\n{answer}<|im_end|>

A directory holds the rendered texts and not the template: a newer template changes no trained model's prompt.
"""

import hashlib
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from mats_ray.config.base import StrictConfig, explain
from mats_ray.errors import ModelError
from mats_ray.tasks import PROMPT_BEFORE, prompt_halves

MAX_CHARACTERS = 20_000
"""Longest text of a prompt format: a template may bring a system prompt of its own, but no book."""
_Text = Annotated[str, Field(max_length=MAX_CHARACTERS)]

OPENING, CLOSING = prompt_halves("\0")[1].split("\0")
"""Vicuna's texts between audio prefix and instruction, and between instruction and answer."""


class PromptFormat(StrictConfig):
    """Texts of a prompt, in their order; audio prefix, instruction and answer stand between them."""

    name: Literal["vicuna", "chat"]
    """"vicuna": BOS is put in front, and all texts are plain. "chat": control tokens in ``before`` and
    ``turn`` are such tokens, BOS among them where the template writes it."""
    before: _Text
    """Before the audio prefix."""
    opening: _Text
    """Between audio prefix and instruction; plain text."""
    closing: _Text
    """Behind the instruction, as far as the first control token; plain text."""
    turn: _Text = ""
    """From that control token to the answer."""
    answer_start: _Text = ""
    """White space before the answer, which the model writes itself."""
    answer_end: _Text = ""
    """White space between the answer and its end."""
    end: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Token that ends an answer; empty: the tokenizer's EOS."""

    @model_validator(mode="after")
    def a_chat_names_its_end(self) -> "PromptFormat":
        """A template's turn may end with another token than EOS, so the token is always named."""
        if self.name == "chat" and self.end is None:
            raise ValueError("a prompt of the kind 'chat' needs end, the token that ends an answer")
        return self

    def __str__(self) -> str:
        """Name it in an error or a fingerprint: formats of equal names and other texts differ."""
        if self == VICUNA:
            return self.name
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]
        return f"{self.name} ({digest})"


VICUNA = PromptFormat(name="vicuna", before=PROMPT_BEFORE, opening=OPENING, closing=CLOSING)


def read_prompt_format(tree: Any, *, source: str) -> PromptFormat:
    """Read the format that a model directory stores; one that stores none was trained with Vicuna's.

    Raises:
        ModelError: It is no prompt format.
    """
    if tree is None:
        return VICUNA
    try:
        return PromptFormat.model_validate(tree)
    except ValidationError as error:
        raise ModelError(f"{source}: prompt: {explain(PromptFormat, error)}") from error
