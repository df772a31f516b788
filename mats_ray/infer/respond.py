"""Second stage of a batch job: decoded clips to finished rows, by one pipeline per process."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers.utils import logging as transformers_logging

from mats_ray.errors import AudioError
from mats_ray.infer.decode import batches_of, clips_of
from mats_ray.infer.pipeline import MATSPipeline
from mats_ray.infer.rows import Prompt, Respondent, Source, error_row, ok_row, to_table
from mats_ray.types import Answer, AudioClip


@dataclass(frozen=True, kw_only=True)
class ResponderSettings:
    """What a process needs to become a responder."""

    model: str
    respondent: Respondent
    prompts: Sequence[Prompt]
    batch_size: int
    """Prompts answered at a time; clips are encoded in the batches they come in."""
    num_threads: int
    device: str


class Responder:
    """Callable for Ray Data, one per actor: a table of ``BATCHES`` to a table of output rows."""

    def __init__(self, settings: ResponderSettings) -> None:
        torch.set_num_threads(settings.num_threads)
        transformers_logging.disable_progress_bar()  # a bar per actor and model would fill the driver's log
        self._settings = settings
        self._pipeline = MATSPipeline.from_pretrained(settings.model, device=settings.device)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Answer every prompt of every clip; each clip is encoded once."""
        return to_table(row for batch in batches_of(table) for row in self._rows(batch))

    def _rows(self, table: pa.Table) -> list[dict[str, Any]]:
        heard = self._hear(clips_of(table))
        paths, etags, prompts = (table.column(name).to_pylist() for name in ("path", "etag", "prompts"))
        asked = [(clip, self._settings.prompts[index]) for clip, row in enumerate(prompts) for index in row]
        answers = iter(self._answer([(heard[clip], prompt) for clip, prompt in asked]))
        rows, respondent = [], self._settings.respondent
        for clip, prompt in asked:
            match heard[clip]:
                case AudioError() as error:
                    source = Source(path=paths[clip], etag=etags[clip])
                    rows.append(error_row(source, prompt, respondent, error))
                case _Heard(seconds=seconds):
                    source = Source(path=paths[clip], etag=etags[clip], seconds=seconds)
                    rows.append(ok_row(source, prompt, respondent, next(answers)))
        return rows

    def _hear(self, clips: Sequence[AudioClip | AudioError]) -> "list[_Heard | AudioError]":
        """Encode what could be decoded; a clip that CLAP refuses spoils no other."""
        sound = [clip for clip in clips if isinstance(clip, AudioClip)]
        try:
            embeddings = iter(self._pipeline.encoder.encode(sound))
        except AudioError:
            if len(clips) == 1:
                raise
            return [self._hear_alone(clip) for clip in clips]
        return [
            clip if isinstance(clip, AudioError) else _Heard(clip.seconds, next(embeddings)) for clip in clips
        ]

    def _hear_alone(self, clip: AudioClip | AudioError) -> "_Heard | AudioError":
        try:
            return self._hear([clip])[0]
        except AudioError as error:
            return error

    def _answer(self, asked: "Sequence[tuple[_Heard | AudioError, Prompt]]") -> Iterator[Answer]:
        """Answer what was heard, in order, ``batch_size`` prompts at a time."""
        heard = [(one.embedding_C, prompt.instruction) for one, prompt in asked if isinstance(one, _Heard)]
        for start in range(0, len(heard), self._settings.batch_size):
            embeddings, instructions = zip(*heard[start : start + self._settings.batch_size], strict=True)
            yield from self._pipeline.answerer.answer(
                np.stack(embeddings), instructions, generation=self._settings.respondent.generation
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Heard:
    seconds: float
    embedding_C: np.ndarray
