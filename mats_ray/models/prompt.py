"""Prompts as token ids: the half before the audio prefix, the half after it, and the answer.

Both prompt halves and the answer are tokenised on their own, without special tokens (upstream); BOS is put
in front once, EOS behind the answer. A padding token is neither needed nor added: padding is masked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedTokenizerBase

from mats_ray.errors import ModelError
from mats_ray.models.llm import embedding_table, load_tokenizer
from mats_ray.models.weights import check_vocabulary
from mats_ray.tasks import prompt_halves


@dataclass(frozen=True, slots=True)
class SampleTokens:
    """Tokens after the audio prefix of one training sample: prompt half, then the answer with EOS."""

    prompt: list[int]
    answer: list[int]
    truncated: bool
    """The instruction was cut to fit max_text_tokens."""


def load_prompts(path: str, llm: nn.Module) -> "PromptTokenizer":
    """Load the tokenizer of a language model.

    Args:
        path: Its directory, hub id or GGUF file.
        llm: The language model.

    Raises:
        ModelError: There is none, it has no EOS token, or ids that the model has no embedding for.
    """
    tokenizer = load_tokenizer(path)
    check_vocabulary(tokenizer, len(embedding_table(llm)), source=f"the tokenizer {path!r}")
    return PromptTokenizer(tokenizer)


class PromptTokenizer:
    """Turns instructions and answers into ids for one language model.

    Args:
        tokenizer: Tokenizer of the language model; needs an EOS token. Without a BOS token (GPT-2 has one
            token for both) EOS is used.

    Raises:
        ModelError: The tokenizer has no EOS token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        bos_id, eos_id = tokenizer.bos_token_id, tokenizer.eos_token_id
        if not isinstance(eos_id, int):
            raise ModelError(
                f"the tokenizer {tokenizer.name_or_path!r} has no EOS token: answers could not end"
            )
        self.tokenizer = tokenizer
        self.eos_id = eos_id
        self.bos_id = bos_id if isinstance(bos_id, int) else eos_id
        # SentencePiece puts its own space mark before a text; byte-level BPE needs a real space there
        self._answer_start = "" if tokenizer.tokenize("a")[0].startswith("\u2581") else " "

    def before(self) -> list[int]:
        """Return BOS and the prompt half before the audio prefix."""
        return [self.bos_id, *self._ids(prompt_halves("")[0])]

    def after(self, instruction: str) -> list[int]:
        """Return the prompt half after the audio prefix."""
        return self._ids(prompt_halves(instruction)[1])

    def sample(self, instruction: str, answer: str, *, max_text_tokens: int) -> SampleTokens:
        """Tokenise a training sample; instruction and answer have at most ``max_text_tokens`` together.

        A sample that is too long loses the end of its instruction, never a part of its answer: a model
        trained on truncated answers learns to stop in the middle.

        Raises:
            ModelError: The answer alone has more.
        """
        ids = [*self._ids(self._answer_start + answer), self.eos_id]
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

    def _ids(self, text: str) -> list[int]:
        # user input is plain text: "</s>" does not end a prompt, "[PAD]" is not looked up as a token
        encoded = self.tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=True,
            verbose=False,  # no warning: a prompt that is too long for the model is an error of its own
        )
        return list(encoded["input_ids"])
