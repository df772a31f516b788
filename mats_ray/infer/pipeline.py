"""MATSPipeline: audio to text in one process.

    audio -> CLAP -> Santa -> connector -> language model -> text

Its parts can live in two processes: ``AudioEncoder`` (clips to embeddings) and a ``GenerationEngine``
(embeddings and instructions to text).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mats_ray.config.answer import AnswerOptions
from mats_ray.infer.encoder import AudioEncoder
from mats_ray.infer.engine import GenerationEngine, GenerationRequest, TextDelta, generate, stream
from mats_ray.infer.engines import build_engine
from mats_ray.models.directory import ModelInfo, read_info
from mats_ray.tasks import Task, instruction_for
from mats_ray.types import Answer, AudioClip, Request

_MAX_REQUESTS = 64
"""Number of requests that are answered at once; more wait in the queue."""


@dataclass(frozen=True, eq=False)
class MATSPipeline:
    """Both parts in one process.

    Example::

        pipe = MATSPipeline.from_pretrained("out/demo/model")
        pipe.ask(read_audio("dog.wav"), "Is there a dog?").text
    """

    encoder: AudioEncoder
    engine: GenerationEngine
    model_id: str

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, device: str = "cpu") -> "MATSPipeline":
        """Load a model directory.

        Raises:
            ModelError: It is incomplete, or its base models are missing or of another identity.
        """
        return cls.from_info(read_info(directory), device=device)

    @classmethod
    def from_info(cls, info: ModelInfo, *, device: str = "cpu") -> "MATSPipeline":
        """Load a model directory, its settings already read; see ``from_pretrained``."""
        encoder = AudioEncoder.from_info(info, device=device)
        return cls(encoder, build_engine(info, device=device, max_requests=_MAX_REQUESTS), info.model_id)

    def __call__(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer a batch of requests, in order.

        Raises:
            AnswerError: One of them cannot be answered, e.g. its question is too long for the model.
            ValueError: A question is missing, or given to a task without questions.
            AudioError: A clip cannot be embedded (see ``AudioEncoder.encode``).
        """
        instructions = [instruction_for(request.task, request.question) for request in requests]
        embeddings = self.encoder.encode([request.audio for request in requests])
        generations = generate(
            self.engine,
            [
                GenerationRequest(embedding_C=embedding_C, instruction=instruction, stream=False)
                for embedding_C, instruction in zip(embeddings, instructions, strict=True)
            ],
        )
        answers = []
        for generation in generations:
            if isinstance(generation, Exception):
                raise generation
            answers.append(generation.answer)
        return answers

    def caption(self, audio: AudioClip) -> Answer:
        """Describe one clip."""
        return self([Request(audio=audio)])[0]

    def ask(self, audio: AudioClip, question: str) -> Answer:
        """Answer one question about one clip."""
        return self([Request(audio=audio, task=Task.QA, question=question)])[0]

    def stream(self, request: Request, options: AnswerOptions | None = None) -> Iterator[TextDelta]:
        """Answer one request in pieces; the last one holds the whole answer.

        Example::

            for delta in pipe.stream(Request(audio=clip)):
                print(delta.text, end="", flush=True)

        Raises:
            AnswerError: The request cannot be answered.
        """
        embedding_C = self.encoder.encode([request.audio])[0]
        instruction = instruction_for(request.task, request.question)
        return stream(
            self.engine,
            GenerationRequest(
                embedding_C=embedding_C, instruction=instruction, options=options or AnswerOptions()
            ),
        )
