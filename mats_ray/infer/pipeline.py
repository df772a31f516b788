"""MATSPipeline: the one place behind the command line, the batch job and the server.

    audio -> CLAP -> Santa -> connector -> language model -> text

It is two parts that can live in two processes: ``AudioEncoder`` (clips to embeddings) and ``Answerer``
(embeddings and instructions to text). An answer does not depend on what it was batched with, nor on chance.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mats_ray.config.answer import AnswerOptions, SantaOptions
from mats_ray.config.generation import PROFILES, GenerationConfig
from mats_ray.config.santa import SantaConfig
from mats_ray.errors import AnswerError, ConfigError, ModelError
from mats_ray.infer.detokenizer import Piece
from mats_ray.models.build import build_clap
from mats_ray.models.clap import CLAP
from mats_ray.models.clap.frontend import LongAudio
from mats_ray.models.directory import SANTA, ModelInfo, load_model, read_info
from mats_ray.models.llm import merged
from mats_ray.models.mats import MATS, Generated
from mats_ray.models.prompt import PromptTokenizer
from mats_ray.models.santa import SantaMemory
from mats_ray.models.upstream.santa import transfer_as_upstream
from mats_ray.tasks import Task, instruction_for
from mats_ray.types import Answer, AudioClip, CLAPIdentity, Request


class AudioEncoder:
    """Clips to CLAP embeddings.

    Args:
        clap: Encodes.
        expected: The CLAP the model was trained with.
        long_audio: What is heard of a clip longer than CLAP's window.
        normalize: To length 1; upstream's Santa takes embeddings as CLAP gives them.

    Raises:
        ModelError: The CLAP at hand is not the one the model was trained with.
    """

    def __init__(
        self,
        clap: CLAP,
        *,
        expected: CLAPIdentity | None = None,
        long_audio: LongAudio = "windows",
        normalize: bool = True,
    ) -> None:
        if expected is not None and clap.identity != expected:
            raise ModelError(f"the model was trained with {expected}, the one found is {clap.identity}")
        self.clap = clap
        self.long_audio: LongAudio = long_audio
        self.normalize = normalize

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, device: str = "cpu") -> "AudioEncoder":
        """Load the CLAP a model directory refers to."""
        return cls.from_info(read_info(directory), device=device)

    @classmethod
    def from_info(cls, info: ModelInfo, *, device: str = "cpu") -> "AudioEncoder":
        """The same with the settings already read."""
        clap = build_clap(info.model.clap).to(device)
        return cls(
            clap,
            expected=info.clap,
            long_audio=info.model.clap.long_audio,
            normalize=info.santa.compat == "paper",
        )

    def encode(
        self, clips: Sequence[AudioClip], *, before_batch: Callable[[], None] = lambda: None
    ) -> np.ndarray:
        """Embed clips of any length and sample rate: (N, C) float32, L2-normalised unless made otherwise.

        Args:
            clips: Any number.
            before_batch: Called before each forward pass; what it raises ends the work.

        Raises:
            AudioError: A clip is empty, or its samples or its embedding are not finite; its name is given.
        """
        embeddings = np.empty((len(clips), self.clap.dim), dtype=np.float32)
        rates = [clip.sample_rate for clip in clips]
        for rate in sorted(set(rates)):
            rows = [row for row, this in enumerate(rates) if this == rate]
            encoded = self.clap.encode_audio(
                [clips[row].samples for row in rows],
                rate,
                names=[clips[row].name for row in rows],
                long_audio=self.long_audio,
                normalize=self.normalize,
                before_batch=before_batch,
            )
            embeddings[rows] = encoded.cpu().numpy()
        return embeddings


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
        """The same with the settings already read."""
        model, prompts = load_model(info)
        model.llm = merged(model.llm)
        memory = SantaMemory.load(info.directory / SANTA).to(device) if info.santa.enabled else None
        if memory is not None and memory.dim != info.model.clap.dim:
            raise ModelError(
                f"{info.directory / SANTA} is {memory.dim}-d, the model's CLAP is {info.model.clap.dim}-d"
            )
        return cls(model.to(device), prompts, info.santa, memory, info.generation, device)

    def move(self, embeddings: np.ndarray, *, santa: bool | SantaOptions | None = None) -> torch.Tensor:
        """Santa: move audio embeddings (N, C) towards the texts they resemble; as they are if it is off.

        Args:
            embeddings: (N, C).
            santa: None: as the model says; False: not; else with other numbers.

        Raises:
            ConfigError: Santa is wanted of a model that has none.
        """
        audio_NC = torch.as_tensor(embeddings, dtype=torch.float32, device=self.device)
        if santa is False or (santa is None and self.memory is None):
            return audio_NC
        if self.memory is None:
            raise ConfigError("santa is asked for, but this model was made without a Santa memory")
        numbers = self.santa.model_dump(include={"num_neighbours", "temperature", "mix"})
        if isinstance(santa, SantaOptions):
            numbers |= santa.model_dump(exclude_none=True)
        if self.santa.compat == "upstream":
            noise_variance = self.santa.neighbour_noise_variance
            return transfer_as_upstream(self.memory, audio_NC, noise_variance=noise_variance, **numbers)
        return self.memory.transfer(audio_NC, **numbers)

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
            generation: Decoding; the model's own by default.
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
        clap_NC = torch.as_tensor(embeddings, device=self.device) if moved else self.move(embeddings)
        generated = self.model.generate(
            clap_NC,
            after_ids,
            max_new_tokens=generation.max_new_tokens,
            **PROFILES[generation.profile].as_kwargs(),
        )
        return [self._spoken(one) for one in generated]

    def check(
        self, embedding_C: np.ndarray, instruction: str, generation: GenerationConfig | None = None
    ) -> list[int]:
        """Find out whether a prompt can be answered; returns the ids of its second half.

        Nothing is shortened to fit: neither what the model reads nor what it may answer.

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
        if limit is not None and (num_prompt := self._count(after_ids)) + longest > limit:
            raise AnswerError(
                f"a prompt of {num_prompt} tokens and an answer of up to {longest} are "
                f"{num_prompt + longest}, the language model has {limit} positions; shorten the question or "
                "ask for fewer tokens",
                code="prompt_too_long",
            )
        return after_ids

    def count_prompt(self, instruction: str) -> int:
        """Count the tokens the model reads before it answers, the audio prefix among them."""
        return self._count(self.prompts.after(instruction))

    def _count(self, after_ids: Sequence[int]) -> int:
        return len(self.model.before_F) + self.model.connector.prefix_length + len(after_ids)

    def _spoken(self, generated: Generated) -> Answer:
        reason = "stop" if generated.ended else "length"
        return Answer(
            text=self.prompts.decode(generated.ids), num_tokens=len(generated.ids), finish_reason=reason
        )


@dataclass(frozen=True, eq=False)
class MATSPipeline:
    """Both parts in one process.

    Example::

        pipe = MATSPipeline.from_pretrained("out/demo/model")
        pipe.ask(read_audio("dog.wav"), "Is there a dog?").text
    """

    encoder: AudioEncoder
    answerer: Answerer
    model_id: str

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, device: str = "cpu") -> "MATSPipeline":
        """Load a model directory.

        Raises:
            ModelError: It is incomplete, or its base models are missing or of another identity.
        """
        info = read_info(directory)
        encoder = AudioEncoder.from_info(info, device=device)
        return cls(encoder, Answerer.from_info(info, device=device), info.model_id)

    def __call__(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer a batch of requests, in order.

        Raises:
            AnswerError: One of them cannot be answered, e.g. its question is too long for the model.
            ValueError: A question is missing, or given to a task that takes none.
            AudioError: A clip cannot be embedded (see ``AudioEncoder.encode``).
        """
        instructions = [instruction_for(request.task, request.question) for request in requests]
        embeddings = self.encoder.encode([request.audio for request in requests])
        return self.answerer.answer(embeddings, instructions)

    def caption(self, audio: AudioClip) -> Answer:
        """Describe one clip."""
        return self([Request(audio=audio)])[0]

    def ask(self, audio: AudioClip, question: str) -> Answer:
        """Answer one question about one clip."""
        return self([Request(audio=audio, task=Task.QA, question=question)])[0]

    def stream(self, request: Request, options: AnswerOptions | None = None) -> Iterator[Piece]:
        """Answer one request piece by piece; the last piece holds the whole answer.

        Example::

            for piece in pipe.stream(Request(audio=clip)):
                print(piece.text, end="", flush=True)

        Raises:
            AnswerError: The request cannot be answered.
        """
        from mats_ray.infer.conversation import Question, stream_answer

        embedding_C = self.encoder.encode([request.audio])[0]
        instruction = instruction_for(request.task, request.question)
        question = Question(
            embedding_C=embedding_C, instruction=instruction, options=options or AnswerOptions()
        )
        return stream_answer(self.answerer, question)
