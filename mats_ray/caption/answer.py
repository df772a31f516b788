"""Answer stage of a batch job: decoded clips to finished rows, by one model per process."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mats_ray.caption.decode import unpack
from mats_ray.caption.embeddings import encoded_clips
from mats_ray.caption.encode import AddWindows, ClipEncoder, EncodedClip
from mats_ray.caption.pooling import WindowPool
from mats_ray.caption.rows import Prompt, Provenance, RowError, error_row, label_row, ok_row, to_table
from mats_ray.config.caption import CaptionConfig
from mats_ray.errors import AnswerError
from mats_ray.infer.classification import Match, match
from mats_ray.infer.engine import GenerationRequest, generate
from mats_ray.models.directory import ModelInfo
from mats_ray.models.startup import without_garbage_collection
from mats_ray.types import Answer


@dataclass(frozen=True, kw_only=True)
class AnswerSettings:
    """Arguments of an answer stage that is made in another process."""

    model: str
    provenance: Provenance
    labels: Sequence[str] = ()
    """Those that clips are compared with, in classifications."""
    batch_size: int
    """Number of prompts answered at a time; clips are encoded in the batches they come in."""
    num_threads: int
    device: str

    @classmethod
    def of(
        cls, settings: CaptionConfig, info: ModelInfo, provenance: Provenance, labels: Sequence[str]
    ) -> "AnswerSettings":
        """Make the arguments of a job's stages."""
        return cls(
            model=str(info.directory.resolve()),
            provenance=provenance,
            labels=tuple(labels),
            batch_size=settings.batch_size,
            num_threads=max(1, int(settings.cpus_per_actor)),
            device="cuda" if settings.gpus_per_actor else "cpu",
        )


class AnswerStage:
    """Callable for Ray Data, one per actor: batches of clips or of embeddings to output rows.

    Args:
        settings: Model, provenance of the rows, and labels.
        add_windows: Adds windows to the pool that all actors share; by default to one of this actor alone.
    """

    @without_garbage_collection
    def __init__(self, settings: AnswerSettings, add_windows: AddWindows | None = None) -> None:
        import torch

        from mats_ray.infer.encoder import AudioEncoder
        from mats_ray.infer.engines import build_engine
        from mats_ray.models.directory import read_info

        torch.set_num_threads(settings.num_threads)
        self._settings = settings
        info = replace(read_info(settings.model), generation=settings.provenance.generation)
        encoder = AudioEncoder.from_info(info, device=settings.device)
        self._clap = encoder.clap
        self._encoder = ClipEncoder(encoder=encoder, add_windows=add_windows or WindowPool().add)
        self._engine = build_engine(info, device=settings.device, max_requests=settings.batch_size)
        self._labels = dict[tuple[str, ...], np.ndarray]()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Answer every prompt of every clip; each clip is encoded once."""
        return to_table(row for batch in unpack(table) for row in self._rows(self._clips(batch)))

    def _clips(self, batch: pa.Table) -> list[EncodedClip]:
        is_embedded = "embedding" in batch.schema.names
        return list(encoded_clips(batch) if is_embedded else self._encoder.encode(batch))

    def _rows(self, clips: Sequence[EncodedClip]) -> Iterator[dict[str, Any]]:
        labels = self._settings.labels
        pairs = [(clip, Prompt.from_value(one, labels)) for clip in clips for one in clip.prompts]
        answers, provenance = iter(self._answers(pairs)), self._settings.provenance
        for clip, prompt in pairs:
            source, result = clip.source, clip.result
            if isinstance(result, RowError):
                yield error_row(source, prompt, provenance, result)
            elif prompt.labels:
                yield label_row(source, prompt, provenance, self._match(result, prompt.labels))
            elif isinstance(answer := next(answers), RowError):
                yield error_row(source, prompt, provenance, answer)
            else:
                yield ok_row(source, prompt, provenance, answer)

    def _match(self, embedding_C: np.ndarray, labels: tuple[str, ...]) -> list[Match]:
        if labels not in self._labels:
            self._labels[labels] = self._clap.encode_text(labels).cpu().numpy()
        return match(embedding_C, self._labels[labels], labels)

    def _answers(self, pairs: Sequence[tuple[EncodedClip, Prompt]]) -> Iterator[Answer | RowError]:
        """Answer the prompts that need the language model, in order, ``batch_size`` at a time."""
        requests = [
            GenerationRequest(embedding_C=clip.result, instruction=prompt.instruction, stream=False)
            for clip, prompt in pairs
            if isinstance(clip.result, np.ndarray) and not prompt.labels
        ]
        for start in range(0, len(requests), self._settings.batch_size):
            for one in generate(self._engine, requests[start : start + self._settings.batch_size]):
                if isinstance(one, AnswerError):
                    yield RowError.of(one)
                elif isinstance(one, Exception):
                    raise one
                else:
                    yield one.answer
