"""Embeddings and instructions to text: Santa, the prompt, and the language model of this process.

An answer depends neither on its batch nor on randomness.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mats_ray.config.answer import SantaOptions
from mats_ray.config.generation import PROFILES, GenerationConfig
from mats_ray.config.santa import SantaConfig
from mats_ray.errors import AnswerError, ConfigError, ModelError
from mats_ray.models.device import to_device
from mats_ray.models.directory import SANTA, ModelInfo, load_model, read_info
from mats_ray.models.llm import merged
from mats_ray.models.mats import MATS, Generated
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.models.santa import SantaMemory
from mats_ray.models.upstream.santa import transfer_as_upstream
from mats_ray.types import Answer


def transfer(audio_NC: torch.Tensor, memory: SantaMemory, santa: SantaConfig) -> torch.Tensor:
    """Move audio embeddings (N, C) by a memory and settings, as the paper or as upstream."""
    numbers = santa.model_dump(include={"num_neighbours", "temperature", "mix"})
    if santa.compat == "upstream":
        return transfer_as_upstream(
            memory, audio_NC, noise_variance=santa.neighbour_noise_variance, **numbers
        )
    return memory.transfer(audio_NC, **numbers)


@dataclass(frozen=True, eq=False)
class Answerer:
    """Embeddings and instructions to text."""

    model: MATS
    prompts: PromptTokenizer
    santa: SantaConfig
    memory: SantaMemory | None
    generation: GenerationConfig
    device: str = "cpu"

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, device: str = "cpu") -> "Answerer":
        """Load the trained parts, the language model and the Santa memory of a model directory."""
        return cls.from_info(read_info(directory), device=device)

    @classmethod
    def from_info(cls, info: ModelInfo, *, device: str = "cpu") -> "Answerer":
        """Load a model directory, its settings already read."""
        model, prompts = load_model(info)
        model.llm = merged(model.llm)
        memory = SantaMemory.load(info.directory / SANTA).to(device) if info.santa.enabled else None
        if memory is not None and memory.dim != info.model.clap.dim:
            raise ModelError(
                f"{info.directory / SANTA} is {memory.dim}-d, the model's CLAP is {info.model.clap.dim}-d"
            )
        return cls(model.to(device), prompts, info.santa, memory, info.generation, device)

    def move(self, embeddings: np.ndarray, *, santa: bool | SantaOptions | None = None) -> torch.Tensor:
        """Move audio embeddings (N, C) towards the texts they resemble (Santa), or leave them if it is off.

        Args:
            embeddings: (N, C).
            santa: None: the model's own setting; False: off; else numbers that replace the model's.

        Raises:
            ConfigError: Santa is requested from a model without a memory.
        """
        audio_NC = to_device(torch.as_tensor(embeddings, dtype=torch.float32), self.device)
        if santa is False or (santa is None and self.memory is None):
            return audio_NC
        if self.memory is None:
            raise ConfigError("santa is requested, but this model was made without a Santa memory")
        changes = santa.model_dump(exclude_none=True) if isinstance(santa, SantaOptions) else {}
        return transfer(audio_NC, self.memory, self.santa.model_copy(update=changes))

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
            moved: The embeddings already lie on the text side: leave Santa out.

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
