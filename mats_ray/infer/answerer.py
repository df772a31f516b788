"""Embeddings and instructions to text: the bridge, the prompt, and the language model of this process.

An answer depends neither on its batch nor on randomness.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mats_ray.config.answer import SantaOptions
from mats_ray.config.generation import PROFILES, GenerationConfig
from mats_ray.errors import AnswerError, ConfigError
from mats_ray.models.bridges.bridge import Bridge
from mats_ray.models.bridges.santa import Santa
from mats_ray.models.bridges.table import load_bridge
from mats_ray.models.device import to_device
from mats_ray.models.directory import ModelInfo, load_model, read_info
from mats_ray.models.llm import merged
from mats_ray.models.mats import MATS, Generated
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.types import Answer


@dataclass(frozen=True, eq=False)
class Answerer:
    """Embeddings and instructions to text."""

    model: MATS
    prompts: PromptTokenizer
    bridge: Bridge
    generation: GenerationConfig
    device: str = "cpu"

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, device: str = "cpu") -> "Answerer":
        """Load the trained parts, the language model and the bridge of a model directory."""
        return cls.from_info(read_info(directory), device=device)

    @classmethod
    def from_info(cls, info: ModelInfo, *, device: str = "cpu") -> "Answerer":
        """Load a model directory, its settings already read."""
        model, prompts = load_model(info)
        model.llm = merged(model.llm)
        bridge = load_bridge(info).to(device)
        return cls(model.to(device), prompts, bridge, info.generation, device)

    def move(self, embeddings: np.ndarray, *, santa: bool | SantaOptions | None = None) -> torch.Tensor:
        """Move audio embeddings (N, C) to the text side by the model's bridge, or leave them if it is off.

        Args:
            embeddings: (N, C).
            santa: None: the model's own setting; False: no bridge; True: Santa, as the model has it; else
                numbers of Santa that replace the model's.

        Raises:
            ConfigError: Santa is requested from a model with another bridge, or none.
        """
        audio_NC = to_device(torch.as_tensor(embeddings, dtype=torch.float32), self.device)
        if santa is False:
            return audio_NC
        if santa is None:
            return self.bridge.transfer(audio_NC)
        if not isinstance(self.bridge, Santa):
            raise ConfigError(
                "santa is requested, but this model was made without a Santa memory; its bridge is "
                f"{self.bridge.name!r}"
            )
        bridge = self.bridge.with_numbers(santa) if isinstance(santa, SantaOptions) else self.bridge
        return bridge.transfer(audio_NC)

    def answer(
        self,
        embeddings: np.ndarray,
        instructions: Sequence[str],
        *,
        generation: GenerationConfig | None = None,
        moved: bool = False,
    ) -> list[Answer]:
        """Answer one instruction per embedding, in order.

        Args:
            embeddings: (N, C) audio embeddings.
            instructions: N instruction texts (see ``tasks.instruction_for``).
            generation: Settings; the model's own by default.
            moved: The embeddings already lie on the text side: leave the bridge out.

        Raises:
            AnswerError: One of them cannot be answered; then none is.
            ValueError: Unequal numbers of embeddings and instructions.
        """
        if len(embeddings) != len(instructions):
            raise ValueError(f"{len(embeddings)} embeddings but {len(instructions)} instructions")
        if not instructions:
            return []
        generation = generation or self.generation
        after_ids = [self.check(*one, generation) for one in zip(embeddings, instructions, strict=True)]
        clap_NC = self.move(embeddings, santa=False if moved else None)
        generated = self.model.generate(
            clap_NC,
            after_ids,
            max_new_tokens=generation.max_new_tokens,
            **PROFILES[generation.profile].as_kwargs(),
        )
        return [self._answer_of(one) for one in generated]

    def check(
        self, embedding_C: np.ndarray, instruction: str, generation: GenerationConfig | None = None
    ) -> list[int]:
        """Check that a prompt can be answered; returns the ids of its second half.

        Nothing is shortened to fit, neither the prompt nor the answer.

        Raises:
            AnswerError: ``not_finite`` or ``prompt_too_long``.
        """
        if (
            not np.square(embedding_C, dtype=np.float64).sum() < np.finfo(np.float32).max
        ):  # NaN is not, either
            raise AnswerError(
                "the audio embedding has numbers that are not finite, or too large for float32",
                code="not_finite",
            )
        after_ids, limit = self.prompts.after(instruction), self.model.max_positions
        longest = (generation or self.generation).max_new_tokens
        if limit is not None and (num_prompt := self.count_prompt(after_ids)) + longest > limit:
            raise AnswerError(
                f"a prompt of {num_prompt} tokens and an answer of up to {longest} are "
                f"{num_prompt + longest}, the language model has {limit} positions; shorten the question or "
                "ask for fewer tokens",
                code="prompt_too_long",
            )
        return after_ids

    def count_prompt(self, after_ids: Sequence[int]) -> int:
        """Return the number of positions of a prompt with this second half, the audio prefix among them."""
        return len(self.model.before_F) + self.model.connector.prefix_length + len(after_ids)

    def _answer_of(self, generated: Generated) -> Answer:
        reason = "stop" if generated.ended else "length"
        return Answer(
            text=self.prompts.decode(generated.ids), num_tokens=len(generated.ids), finish_reason=reason
        )
