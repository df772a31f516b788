"""Encoder and answerer in this process, each batching on a thread of its own.

The deployments of the same names hold one each, a colocated replica both. torch is imported when one is made.
"""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mats_ray.config.answer import AnswerOptions
from mats_ray.config.serve import ReplicaConfig, ServeConfig
from mats_ray.infer.engine import EngineLoad
from mats_ray.models.startup import without_garbage_collection
from mats_ray.serving.batching import BatchThread
from mats_ray.serving.consistency import check_space
from mats_ray.serving.service import WARM_UP_CLIP
from mats_ray.serving.types import AnswerEvents, AnswerResult, Embedding, ModelCard
from mats_ray.types import AudioClip

if TYPE_CHECKING:
    from mats_ray.models.directory import ModelInfo


class LocalEncoder:
    """Clips and labels to CLAP embeddings, in batches; an ``EncoderClient``.

    Args:
        config: The model's directory, and section ``encoder``.

    Raises:
        ModelError: The CLAP cannot be loaded.
    """

    @without_garbage_collection
    def __init__(self, config: ServeConfig) -> None:
        from mats_ray.infer.encoder import AudioEncoder

        device = _start_torch(config.threads, config.encoder)
        info = _read_info(config)
        self._space = info.space
        self._encoder = AudioEncoder.from_info(info, device=device)
        self._encoder.encode([WARM_UP_CLIP])
        self._clips = BatchThread(
            self._encode,
            max_items=config.encoder.max_batch_size,
            max_size=config.encoder.max_batch_seconds,
            size_of=lambda clip: clip.seconds,
            wait_seconds=config.encoder.batch_wait_seconds,
        )
        self._labels = BatchThread(self._encode_labels, max_items=1)

    async def check_health(self) -> None:
        """Raise EngineError if it cannot encode; called every second, to replace the replica."""
        self._clips.check_health()
        self._labels.check_health()

    async def encode(self, clip: AudioClip) -> Embedding:
        """Embed one clip: (C,) float32."""
        return Embedding(await self._clips.do(clip), self._space)

    async def encode_labels(self, labels: Sequence[str]) -> Embedding:
        """Embed texts: (N, C) float32."""
        return Embedding(await self._labels.do(labels), self._space)

    def _encode(self, clips: Sequence[AudioClip]) -> list[np.ndarray]:
        return list(self._encoder.encode(clips, before_batch=self._clips.raise_if_abandoned))

    def _encode_labels(self, batch: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [self._encoder.clap.encode_text(labels).cpu().numpy() for labels in batch]


class LocalAnswerer:
    """Embeddings and instructions to text, answers joining and leaving a batch; an ``AnswererClient``.

    Args:
        config: The model's directory, and sections ``answerer`` and ``generation``.
        on_load: Called with the numbers of open requests when a request comes.

    Raises:
        ModelError: The language model cannot be loaded.
    """

    @without_garbage_collection
    def __init__(
        self, config: ServeConfig, *, on_load: Callable[[EngineLoad], None] = lambda _: None
    ) -> None:
        from mats_ray.infer.engines import build_engine
        from mats_ray.models.directory import CONFIG
        from mats_ray.serving.async_engine import AsyncEngine

        device = _start_torch(config.threads, config.answerer)
        info = _read_info(config)
        self._space, self._on_load = info.space, on_load
        info = replace(info, generation=config.generation or info.generation)
        card = ModelCard(
            id=info.model_id,
            created=int((info.directory / CONFIG).stat().st_mtime),
            version=f"{info.model_id} {info.generation.model_dump_json()}",
        )
        engine = build_engine(info, device=device, max_requests=config.answerer.max_batch_size)
        self._engine = AsyncEngine(engine, card)

    async def check_health(self) -> None:
        """Raise EngineError if the engine has stopped; called every second, to replace the replica."""
        self._engine.check_health()

    async def describe(self) -> ModelCard:
        """Return the identity of the model that answers."""
        return self._engine.model

    async def answer(self, embedding: Embedding, instruction: str, options: AnswerOptions) -> AnswerResult:
        """Answer one instruction about one embedding (C,).

        Raises:
            RequestError: See ``AnswererClient``.
            EngineError: The engine has stopped.
        """
        self._on_load(self._engine.load)
        check_space(embedding, self._space)
        return await self._engine.answer(embedding.vectors, instruction, options)

    async def stream(self, embedding: Embedding, instruction: str, options: AnswerOptions) -> AnswerEvents:
        """Yield the answer in deltas, then the result.

        Raises:
            RequestError, EngineError: As for ``answer``.
        """
        self._on_load(self._engine.load)
        check_space(embedding, self._space)
        async with aclosing(self._engine.stream(embedding.vectors, instruction, options)) as events:
            async for event in events:
                yield event


class LocalModel:
    """Encoder and answerer in one process.

    Args:
        config, on_load: See ``LocalEncoder`` and ``LocalAnswerer``.

    Raises:
        ModelError: A part cannot be loaded.
    """

    def __init__(
        self, config: ServeConfig, *, on_load: Callable[[EngineLoad], None] = lambda _: None
    ) -> None:
        self.encoder, self.answerer = LocalEncoder(config), LocalAnswerer(config, on_load=on_load)

    async def check_health(self) -> None:
        """Raise EngineError if one of them has stopped; called every second, to replace the replica."""
        await self.encoder.check_health()
        await self.answerer.check_health()


def _start_torch(threads: int, part: ReplicaConfig) -> str:
    """Limit torch's threads and return the device."""
    import torch

    torch.set_num_threads(threads)
    return "cuda" if part.gpus > 0 else "cpu"


def _read_info(config: ServeConfig) -> "ModelInfo":
    from mats_ray.models.directory import read_info
    from mats_ray.models.stand_in import refuse_stand_ins

    info = read_info(config.model)
    refuse_stand_ins(config.model, info.stand_ins, rehearsal=config.rehearsal)
    return info
