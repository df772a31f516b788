"""Prompts as token ids: the half before the audio prefix, the half after it, and the answer.

The texts are those of a ``PromptFormat``. With Vicuna's, both prompt halves and the answer are tokenised on
their own, without special tokens (upstream); BOS is put in front once, EOS behind the answer. With a chat
template's, control tokens that the template writes are such tokens, as in the language model's own training,
and BOS stands where the template writes it. What users and data sets write is text, with either. A padding
token is neither needed nor added: padding is masked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedTokenizerBase

from mats_ray.config.model import PromptChoice
from mats_ray.errors import ModelError
from mats_ray.models.chat_template import choose_format, control_tokens
from mats_ray.models.llm import embedding_table, load_tokenizer
from mats_ray.models.prompt_format import VICUNA, PromptFormat
from mats_ray.models.weights import check_vocabulary


@dataclass(frozen=True, slots=True)
class SampleTokens:
    """Tokens after the audio prefix of one training sample: prompt half, then the answer with EOS."""

    prompt: list[int]
    answer: list[int]
    truncated: bool
    """The instruction was cut to fit max_text_tokens."""


def load_prompts(
    path: str, prompt_format: PromptChoice | PromptFormat, *, llm: nn.Module | None = None
) -> "PromptTokenizer":
    """Load the tokenizer of a language model, and the prompt format that goes with it.

    Args:
        path: Its directory, hub id or GGUF file.
        prompt_format: The format, or the setting that names it.
        llm: The language model; without it the size of its vocabulary is not compared.

    Raises:
        ModelError: There is no tokenizer, its chat template cannot be used, it has no token that ends an
            answer, or ids that the model has no embedding for.
    """
    tokenizer = load_tokenizer(path)
    if llm is not None:
        check_vocabulary(tokenizer, len(embedding_table(llm)), source=f"the tokenizer {path!r}")
    if isinstance(prompt_format, str):
        prompt_format = choose_format(tokenizer, prompt_format)
    return PromptTokenizer(tokenizer, prompt_format)


class PromptTokenizer:
    """Turns instructions and answers into ids for one language model.

    Args:
        tokenizer: Tokenizer of the language model.
        prompt_format: Vicuna's needs an EOS token. Without a BOS token (GPT-2 has one token for both) EOS is
            used.

    Raises:
        ModelError: The tokenizer has no token that ends an answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_format: PromptFormat = VICUNA) -> None:
        bos_id = tokenizer.bos_token_id
        self.tokenizer, self.format = tokenizer, prompt_format
        self.eos_id = _end_id(tokenizer, prompt_format)
        self.bos_id = bos_id if isinstance(bos_id, int) else self.eos_id
        self._is_chat = prompt_format.name == "chat"
        self._control_ids = (
            frozenset(control_tokens(tokenizer).values()) if self._is_chat else frozenset[int]()
        )
        # SentencePiece puts its own space mark before a text; byte-level BPE needs a real space there
        self._answer_start = "" if tokenizer.tokenize("a")[0].startswith("\u2581") else " "

    def before(self) -> list[int]:
        """Return the prompt half before the audio prefix, BOS included."""
        if self._is_chat:
            return self._ids(self.format.before, with_control_tokens=True)
        return [self.bos_id, *self._ids(self.format.before)]

    def after(self, instruction: str) -> list[int]:
        """Return the prompt half after the audio prefix."""
        plain = self._plain(self.format.opening + instruction + self.format.closing)
        return plain + (self._ids(self.format.turn, with_control_tokens=True) if self.format.turn else [])

    def sample(self, instruction: str, answer: str, *, max_text_tokens: int) -> SampleTokens:
        """Tokenise a training sample; instruction and answer have at most ``max_text_tokens`` together.

        A sample that is too long loses the end of its instruction, never a part of its answer: a model
        trained on truncated answers learns to stop in the middle.

        Raises:
            ModelError: The answer alone has more.
        """
        ids = [*self._answer(answer), self.eos_id]
        prompt = self.after(instruction)
        if len(prompt) + len(ids) <= max_text_tokens:
            return SampleTokens(prompt, ids, truncated=False)
        instruction_ids = self._ids(instruction)
        keep = max(0, len(instruction_ids) - (len(prompt) + len(ids) - max_text_tokens))
        while len(prompt) + len(ids) > max_text_tokens and keep >= 0:
            # tokenised again: cut text may have more tokens than it was cut to
            prompt = self.after(self.decode(instruction_ids[:keep]))
            keep -= 1
        if len(prompt) + len(ids) > max_text_tokens:
            raise ModelError(
                f"an answer of {len(ids)} tokens leaves no room for any instruction within "
                f"max_text_tokens={max_text_tokens}: {answer[:60]!r}; "
                "raise model.llm.max_text_tokens or leave it out"
            )
        return SampleTokens(prompt, ids, truncated=True)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of an answer, without special tokens."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        assert isinstance(text, str)
        return text.strip()

    def _answer(self, answer: str) -> list[int]:
        if not self._is_chat:
            return self._ids(self._answer_start + answer)
        return self._plain(f"{self.format.answer_start}{answer}{self.format.answer_end}")

    def _plain(self, text: str) -> list[int]:
        """Tokenise what users and data sets write; in a chat it stands between texts of the template.

        ``split_special_tokens`` splits tokens marked as special only. Qwen3's ``</think>`` is not, and ends
        what a model takes for its own thinking all the same: text with such a token is tokenised by
        characters.
        """
        if not self._is_chat:
            return self._ids(text)
        ids = self._continued(text)
        if self._control_ids.isdisjoint(ids):
            return ids
        return [index for character in text for index in self._continued(character)]

    def _continued(self, text: str) -> list[int]:
        """Tokenise text behind a line break: SentencePiece puts a space of its own at a start."""
        lead, ids = self._ids("\n"), self._ids(f"\n{text}")
        return ids[len(lead) :] if ids[: len(lead)] == lead else self._ids(text)

    def _ids(self, text: str, *, with_control_tokens: bool = False) -> list[int]:
        # user input is plain text: "</s>" does not end a prompt, "[PAD]" is not looked up as a token
        encoded = self.tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=not with_control_tokens,
            verbose=False,  # no warning: a prompt that is too long for the model is an error of its own
        )
        return list(encoded["input_ids"])


def _end_id(tokenizer: PreTrainedTokenizerBase, prompt_format: PromptFormat) -> int:
    """Return the id of the token that ends an answer."""
    if prompt_format.end is not None:
        index = tokenizer.get_vocab().get(prompt_format.end)
        if index is None:
            raise ModelError(
                f"the tokenizer {tokenizer.name_or_path!r} has no token {prompt_format.end!r}, which ends an "
                "answer"
            )
        return index
    if not isinstance(tokenizer.eos_token_id, int):
        raise ModelError(f"the tokenizer {tokenizer.name_or_path!r} has no EOS token: answers could not end")
    return tokenizer.eos_token_id
